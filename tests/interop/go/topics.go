package main

import (
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

var topics = []scenario{
	{"publish", publish},
	{"publish-scheduled", publishScheduled},
	{"filters", filters},
	{"actions", actions},
	{"subscription-peek", subscriptionPeek},
	{"subscription-delete", subscriptionDelete},
	{"subscription-dead-letter", subscriptionDeadLetter},
	{"subscription-sessions", subscriptionSessions},
	{"subscription-forward", subscriptionForward},
}

func publish(t *T) {
	c := t.connect()
	defer c.close()
	sender := c.sender(t.entity())
	sender.send(text("1"))
	sender.sendBatch(texts("2", "3")...)
	for _, name := range []string{"a", "b"} {
		last := int64(0)
		for _, message := range c.taken(t.entity(), name, "1", "2", "3") {
			expect(*message.SequenceNumber > last, true, "sequence numbers rise")
			last = *message.SequenceNumber
		}
	}
	_, err := c.receiver(t.entity(), nil).ReceiveMessages(t.ctx, 1, nil)
	expectMissing(err, "a receiver of a topic")
	_, err = c.subscriber(t.entity(), "none", nil).ReceiveMessages(t.ctx, 1, nil)
	expectMissing(err, "a subscription that is not there")
}

func publishScheduled(t *T) {
	c := t.connect()
	defer c.close()
	due := time.Now().Add(4 * time.Second).Truncate(time.Millisecond)
	sender := c.sender(t.entity())
	numbers := must(sender.ScheduleMessages(t.ctx, texts("first", "cancelled"), due, nil))
	second := text("second")
	second.ScheduledEnqueueTime = to.Ptr(due)
	sender.send(second, text("at once"))
	check(sender.CancelScheduledMessages(t.ctx, numbers[1:], nil))
	expectCode(sender.CancelScheduledMessages(t.ctx, numbers[1:], nil), sb.CodeNotFound, "cancelled already")
	subscriber := c.subscriber(t.entity(), "a", nil)
	expect(bodies(subscriber.peek()), []string{"at once"}, "messages that are not due are the topic's")
	subscriber.completes("at once")
	for _, message := range subscriber.completes("first", "second") {
		expect(message.EnqueuedTime.Before(due), false, "enqueued before it was due")
	}
	subscriber.closeEmpty()
}

func filters(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), sized("one", 1, "red"), sized("seven", 7, "blue"), sized("eight", 8, "red"), text("none"))
	c.taken(t.entity(), "everything", "one", "seven", "eight", "none")
	c.taken(t.entity(), "nothing")
	c.taken(t.entity(), "sql", "seven")
	c.taken(t.entity(), "missing", "none")
	c.taken(t.entity(), "correlation", "one", "eight")
	c.taken(t.entity(), "typed", "seven")
}

func actions(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), sized("small", 1, "red"), sized("big", 7, "blue"))
	copies := c.taken(t.entity(), "a", "big", "big")
	slices.SortFunc(copies, func(a, b *sb.ReceivedMessage) int { return strings.Compare(*a.Subject, *b.Subject) })
	plain, doubled := copies[0], copies[1]
	expect([]string{*plain.Subject, *doubled.Subject}, []string{"blue", "doubled"}, "subjects")
	expect(plain.ApplicationProperties, map[string]any{"size": int32(7)}, "properties of the plain copy")
	// 2 is a long in SQL, and so is what comes of it.
	changed := map[string]any{"size": int64(14), "RuleName": "double"}
	expect(doubled.ApplicationProperties, changed, "properties of the other copy")
}

func subscriptionPeek(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("1", "2", "3")...)
	receiver := must(c.NewReceiverForSubscription(t.entity(), "a", nil))
	in := inbox{receiver, t}
	locked := in.one()
	expect(bodies(in.peek()), []string{"1", "2", "3"}, "peeked, the locked one among them")
	check(receiver.RenewMessageLock(t.ctx, locked, nil))
	in.complete(locked)
	in.completes("2", "3")
	in.closeEmpty()
}

func subscriptionDelete(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("1", "2", "3")...)
	subscriber := c.subscriber(t.entity(), "a", deletes)
	expect(bodies(subscriber.take(3)), []string{"1", "2", "3"}, "bodies")
	subscriber.close()
	c.taken(t.entity(), "a")
}

// The subscription allows two deliveries.
func subscriptionDeadLetter(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("bad", "poison", "good")...)
	subscriber := c.subscriber(t.entity(), "a", nil)
	subscriber.deadLetter(subscriber.one(), "unreadable", "it made no sense")
	for failed := range 2 {
		message := subscriber.one()
		expect(see(message), seen{"poison", failed}, "body and failed deliveries")
		subscriber.abandon(message)
	}
	subscriber.completes("good")
	subscriber.closeEmpty()
	dead := c.subscriber(t.entity(), "a", deadLetter)
	found := dead.completes("bad", "poison")
	reasons := []string{*found[0].DeadLetterReason, *found[1].DeadLetterReason}
	expect(reasons, []string{"unreadable", "MaxDeliveryCountExceeded"}, "reasons")
	expect(*found[0].DeadLetterErrorDescription, "it made no sense", "description")
	dead.closeEmpty()
	c.taken(t.entity(), "b", "bad", "poison", "good")
}

func subscriptionSessions(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), inSession("x", "x1"), inSession("y", "y1"), inSession("x", "x2"))
	named := must(c.AcceptSessionForSubscription(t.ctx, t.entity(), "a", "x", nil))
	in := inbox{named, t}
	in.completes("x1", "x2")
	check(named.SetSessionState(t.ctx, []byte("half done"), nil))
	check(named.RenewSessionLock(t.ctx, nil))
	expect(string(must(named.GetSessionState(t.ctx, nil))), "half done", "state")
	in.close()
	next := must(c.AcceptNextSessionForSubscription(t.ctx, t.entity(), "a", nil))
	expect(next.SessionID(), "y", "session")
	in = inbox{next, t}
	in.completes("y1")
	in.closeEmpty()
}

// One subscription forwards to a queue, the other to a topic that takes what is big.
func subscriptionForward(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), sized("small", 1, "red"), sized("big", 7, "blue"))
	receiver := c.receiver(t.entity()+".queue", nil)
	receiver.completes("small", "big")
	receiver.closeEmpty()
	c.taken(t.entity()+".topic", "end", "big")
}
