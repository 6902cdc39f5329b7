package main

import (
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

var features = []scenario{
	{"schedule", schedule},
	{"cancel", cancelScheduled},
	{"defer", deferMessages},
	{"duplicates", duplicates},
	{"time-to-live", timeToLive},
	{"forward", forward},
}

var sessions = []scenario{
	{"session-named", sessionNamed},
	{"session-next", sessionNext},
	{"session-state", sessionState},
	{"session-renewal", sessionRenewal},
}

func schedule(t *T) {
	c := t.connect()
	defer c.close()
	due := time.Now().Add(4 * time.Second).Truncate(time.Millisecond)
	sender := c.sender(t.entity())
	numbers := must(sender.ScheduleMessages(t.ctx, texts("first", "second"), due, nil))
	expect(len(numbers), 2, "sequence numbers")
	third := text("third")
	third.ScheduledEnqueueTime = to.Ptr(due.Add(time.Second))
	sender.send(third, text("at once"))
	receiver := c.receiver(t.entity(), nil)
	states := map[string]sb.MessageState{}
	for _, message := range receiver.peek() {
		states[string(message.Body)] = message.State
	}
	expect(states, map[string]sb.MessageState{
		"first": sb.MessageStateScheduled, "second": sb.MessageStateScheduled,
		"third": sb.MessageStateScheduled, "at once": sb.MessageStateActive,
	}, "states")
	receiver.completes("at once")
	// The credit of this call stays on the link, and the client gives back what comes meanwhile.
	receiver.nothing("messages too early")
	time.Sleep(time.Until(due) + 500*time.Millisecond)
	for _, wanted := range []string{"first", "second", "third"} {
		message := receiver.one()
		expect(see(message), seen{wanted, 0}, "body and failed deliveries")
		expect(message.EnqueuedTime.Before(due), false, "enqueued before it was due")
		expect(message.ScheduledEnqueueTime != nil, true, "scheduled time")
		for _, number := range numbers {
			expect(*message.SequenceNumber == number, false, "the number of the schedule")
		}
		receiver.complete(message)
	}
	receiver.closeEmpty()
}

func cancelScheduled(t *T) {
	c := t.connect()
	defer c.close()
	sender := c.sender(t.entity())
	due := time.Now().Add(3 * time.Second)
	numbers := must(sender.ScheduleMessages(t.ctx, texts("cancelled", "kept"), due, nil))
	check(sender.CancelScheduledMessages(t.ctx, numbers[:1], nil))
	expectCode(sender.CancelScheduledMessages(t.ctx, numbers[:1], nil), sb.CodeNotFound, "cancelled already")
	receiver := c.receiver(t.entity(), nil)
	receiver.completes("kept")
	expectCode(sender.CancelScheduledMessages(t.ctx, numbers[1:], nil), sb.CodeNotFound, "enqueued already")
	receiver.closeEmpty()
}

func deferMessages(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("1", "2", "3", "4")...)
	receiver := must(c.NewReceiverForQueue(t.entity(), nil))
	in := inbox{receiver, t}
	var numbers []int64
	for _, message := range in.take(3) {
		numbers = append(numbers, *message.SequenceNumber)
		check(in.DeferMessage(t.ctx, message, nil))
	}
	in.completes("4")
	in.nothing("deferred messages")
	for _, message := range in.peek() {
		expect(message.State, sb.MessageStateDeferred, "state")
	}
	found := must(in.deferred(numbers[:2]...))
	expect(bodies(found), []string{"1", "2"}, "bodies")
	_, err := in.deferred(numbers[0])
	expectCode(err, sb.CodeNotFound, "one that is locked")
	check(receiver.RenewMessageLock(t.ctx, found[0], nil))
	in.complete(found[0])
	in.abandon(found[1])
	in.nothing("deferred messages")
	again := must(in.deferred(numbers[1]))[0]
	expect(see(again), seen{"2", 1}, "body and failed deliveries")
	in.deadLetter(again, "given up", "")
	_, err = in.deferred(numbers[1])
	expectCode(err, sb.CodeNotFound, "one that is gone")
	in.close()
	dead := c.receiver(t.entity(), deadLetter)
	expect(*dead.completes("2")[0].DeadLetterReason, "given up", "reason")
	dead.closeEmpty()
	deleting := c.receiver(t.entity(), deletes)
	expect(bodies(must(deleting.deferred(numbers[2]))), []string{"3"}, "bodies")
	expect(len(deleting.peek()), 0, "messages at the end")
	deleting.close()
}

// The queue remembers ids for a minute.
func duplicates(t *T) {
	c := t.connect()
	defer c.close()
	named := func(id, body string) *sb.Message {
		return &sb.Message{Body: []byte(body), MessageID: to.Ptr(id)}
	}
	sender, receiver := c.sender(t.entity()), c.receiver(t.entity(), nil)
	sender.send(named("a", "a alone"), named("b", "b alone"), named("a", "a again"))
	sender.sendBatch(named("b", "b in a batch"), named("c", "c in a batch"), named("c", "c again"))
	receiver.completes("a alone", "b alone", "c in a batch")
	sender.send(named("a", "after completion"))
	must(sender.ScheduleMessages(t.ctx, []*sb.Message{named("a", "scheduled")}, time.Now(), nil))
	receiver.closeEmpty()
}

// Messages of the queue live for three seconds at most, and end in the dead-letter queue.
func timeToLive(t *T) {
	c := t.connect()
	defer c.close()
	short, long := text("short"), text("long")
	short.TimeToLive, long.TimeToLive = to.Ptr(time.Second), to.Ptr(time.Hour)
	c.send(t.entity(), short, long, text("unset"))
	receiver := c.receiver(t.entity(), nil)
	message := receiver.one()
	expect(string(message.Body), "short", "body")
	expect(message.ExpiresAt.Sub(*message.EnqueuedTime), time.Second, "lifetime")
	receiver.abandon(message)
	receiver.close()
	time.Sleep(4 * time.Second)
	c.expectEmpty(t.entity())
	dead := c.receiver(t.entity(), deadLetter)
	found := map[string]string{}
	for _, message := range dead.take(3) {
		found[string(message.Body)] = *message.DeadLetterReason
		dead.complete(message)
	}
	const expired = "TTLExpiredException"
	expect(found, map[string]string{"short": expired, "long": expired, "unset": expired}, "dead letters")
	dead.closeEmpty()
}

// The queue forwards to another, whose dead letters go to a third.
func forward(t *T) {
	c := t.connect()
	defer c.close()
	target := t.entity() + ".target"
	c.send(t.entity(), texts("good", "bad")...)
	receiver := c.receiver(target, nil)
	expect(see(receiver.completes("good")[0]).failed, 0, "failed deliveries")
	receiver.deadLetter(receiver.one(), "unreadable", "")
	receiver.closeEmpty()
	dead := c.receiver(t.entity()+".dead", nil)
	message := dead.completes("bad")[0]
	expect(*message.DeadLetterReason, "unreadable", "reason")
	expect(*message.DeadLetterSource, target, "source")
	dead.closeEmpty()
}

// accept takes a session by its name.
func (c client) accept(queue, session string) (*sb.SessionReceiver, inbox) {
	receiver := must(c.AcceptSessionForQueue(c.t.ctx, queue, session, nil))
	expect(receiver.SessionID(), session, "session")
	return receiver, inbox{receiver, c.t}
}

func sessionNamed(t *T) {
	c := t.connect()
	defer c.close()
	for _, pair := range [][2]string{{"a", "a1"}, {"b", "b1"}, {"a", "a2"}, {"b", "b2"}} {
		c.send(t.entity(), inSession(pair[0], pair[1]))
	}
	receiver, in := c.accept(t.entity(), "b")
	expect(receiver.LockedUntil().After(time.Now()), true, "the lock lasts")
	for _, message := range in.completes("b1", "b2") {
		expect(*message.SessionID, "b", "session")
	}
	in.nothing("messages of other sessions")
	other := t.connect()
	_, err := other.AcceptSessionForQueue(t.ctx, t.entity(), "b", nil)
	if err == nil {
		fail("a session that is held was given again")
	}
	other.close()
	in.close()
	_, in = c.accept(t.entity(), "a")
	message := in.one()
	expect(see(message), seen{"a1", 0}, "body and failed deliveries")
	in.abandon(message)
	for _, wanted := range []seen{{"a1", 1}, {"a2", 0}} {
		message := in.one()
		expect(see(message), wanted, "body and failed deliveries")
		in.complete(message)
	}
	in.closeEmpty()
	if _, err := c.receiver(t.entity(), nil).ReceiveMessages(t.ctx, 1, nil); err == nil {
		fail("a receiver of no session was let in")
	}
	if err := c.sender(t.entity()).SendMessage(t.ctx, text("of no session"), nil); err == nil {
		fail("a message of no session was taken")
	}
}

func (c client) next(queue string) (*sb.SessionReceiver, inbox) {
	ctx, cancel := within(c.t, answer)
	defer cancel()
	receiver := must(c.AcceptNextSessionForQueue(ctx, queue, nil))
	return receiver, inbox{receiver, c.t}
}

// The client names no time to wait for, so it is the one that gives up here: see idle.
func (c client) noNext(queue string) {
	ctx, cancel := within(c.t, 2*time.Second)
	defer cancel()
	_, err := c.AcceptNextSessionForQueue(ctx, queue, nil)
	expect(errors.Is(err, context.DeadlineExceeded), true, "it was waited for a session")
}

func sessionNext(t *T) {
	c := t.connect()
	defer c.close()
	c.noNext(t.entity())
	c.send(t.entity(), inSession("x", "x1"), inSession("y", "y1"))
	first, x := c.next(t.entity())
	second, y := c.next(t.entity())
	expect([]string{first.SessionID(), second.SessionID()}, []string{"x", "y"}, "sessions")
	c.noNext(t.entity())
	x.completes("x1")
	expect(see(y.one()), seen{"y1", 0}, "body and failed deliveries")
	x.close()
	y.close()
	// Its receiver closed without settling.
	again, in := c.next(t.entity())
	expect(again.SessionID(), "y", "session")
	message := in.one()
	expect(see(message), seen{"y1", 0}, "body and failed deliveries")
	in.complete(message)
	in.close()
	c.noNext(t.entity())
}

func sessionState(t *T) {
	c := t.connect()
	defer c.close()
	state := func(receiver *sb.SessionReceiver) string {
		return string(must(receiver.GetSessionState(t.ctx, nil)))
	}
	receiver, in := c.accept(t.entity(), "s")
	expect(must(receiver.GetSessionState(t.ctx, nil)), nil, "state at first")
	check(receiver.SetSessionState(t.ctx, []byte("half done"), nil))
	expect(state(receiver), "half done", "state")
	in.close()
	receiver, in = c.accept(t.entity(), "other")
	expect(must(receiver.GetSessionState(t.ctx, nil)), nil, "state of another session")
	in.close()
	receiver, in = c.accept(t.entity(), "s")
	expect(state(receiver), "half done", "state kept")
	check(receiver.SetSessionState(t.ctx, nil, nil))
	expect(len(state(receiver)), 0, "state removed")
	in.close()
}

// The queue locks for five seconds.
func sessionRenewal(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), inSession("s", "slow work"), inSession("s", "late work"))
	receiver, in := c.accept(t.entity(), "s")
	message := in.one()
	for range 2 {
		until := receiver.LockedUntil()
		time.Sleep(3 * time.Second)
		check(receiver.RenewSessionLock(t.ctx, nil))
		expect(receiver.LockedUntil().After(until), true, "the lock lasts longer")
	}
	in.complete(message)
	late := in.one()
	expect(see(late), seen{"late work", 0}, "body and failed deliveries")
	time.Sleep(6 * time.Second)
	another := t.connect()
	_, other := another.accept(t.entity(), "s")
	again := other.one()
	expect(see(again), seen{"late work", 1}, "body and failed deliveries")
	expectCode(receiver.RenewSessionLock(t.ctx, nil), sb.CodeLockLost, "a late renewal")
	other.complete(again)
	// It would attach to the session again and try once more, whatever is said of retries.
	ctx, cancel := within(t, empty)
	defer cancel()
	if err := in.CompleteMessage(ctx, late, nil); err == nil {
		fail("a late settlement was taken")
	}
	other.closeEmpty()
	another.close()
}
