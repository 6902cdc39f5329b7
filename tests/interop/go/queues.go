package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	large    = 900 * 1024
	oversize = 1_500_000
	idle     = 70 * time.Second
)

var queues = []scenario{
	{"send-one", sendOne},
	{"batch-100", batch100},
	{"large", sendLarge},
	{"complete", complete},
	{"abandon", abandon},
	{"dead-letter", deadLetters},
	{"max-delivery", maxDelivery},
	{"lock-renewal", lockRenewal},
	{"lock-expiry", lockExpiry},
	{"receive-and-delete", receiveAndDelete},
	{"peek", peek},
	{"prefetch", prefetch},
	{"drain", drain},
	{"wrong-key", wrongKey},
	{"missing-entity", missingEntity},
	{"oversize", tooLarge},
	{"idle", stayIdle},
	{"reconnect", reconnect},
}

// pattern has bytes that show a piece that is missing, doubled or moved.
func pattern(size int) []byte {
	var body []byte
	for i := range size / 4 {
		body = binary.BigEndian.AppendUint32(body, uint32(i))
	}
	return body
}

func sendOne(t *T) {
	properties := map[string]any{
		"text": "é", "int": int32(7), "long": int64(-1), "float": 1.5, "flag": true,
		"octets": []byte{0, 255}, "when": time.UnixMilli(1_700_000_000_123).UTC(),
	}
	sent := sb.Message{
		Body:                  []byte("hello"),
		MessageID:             to.Ptr("m-1"),
		Subject:               to.Ptr("greeting"),
		CorrelationID:         to.Ptr("c-1"),
		ContentType:           to.Ptr("text/plain"),
		To:                    to.Ptr("somebody"),
		ReplyTo:               to.Ptr("answers"),
		ReplyToSessionID:      to.Ptr("s-2"),
		TimeToLive:            to.Ptr(time.Hour),
		ApplicationProperties: properties,
	}
	c := t.connect()
	defer c.close()
	c.send(t.entity(), &sent)
	receiver := c.receiver(t.entity(), nil)
	message := receiver.one()
	expect(string(message.Body), "hello", "body")
	expect(message.MessageID, "m-1", "id")
	expect(message.Subject, sent.Subject, "subject")
	expect(message.CorrelationID, sent.CorrelationID, "correlation id")
	expect(message.ContentType, sent.ContentType, "content type")
	expect(message.To, sent.To, "to")
	expect(message.ReplyTo, sent.ReplyTo, "reply to")
	expect(message.ReplyToSessionID, sent.ReplyToSessionID, "session to reply to")
	expect(message.TimeToLive, sent.TimeToLive, "time to live")
	// Moments are those of the machine's zone.
	message.ApplicationProperties["when"] = message.ApplicationProperties["when"].(time.Time).UTC()
	expect(message.ApplicationProperties, properties, "application properties")
	expect(see(message).failed, 0, "failed deliveries")
	expect(time.Since(*message.EnqueuedTime).Abs() < time.Minute, true, "enqueued just now")
	expect(*message.ExpiresAt, message.EnqueuedTime.Add(time.Hour), "expiry")
	expect(message.LockedUntil.After(time.Now()), true, "the lock lasts")
	expect(message.State, sb.MessageStateActive, "state")
	receiver.complete(message)
	receiver.closeEmpty()
}

func batch100(t *T) {
	c := t.connect()
	defer c.close()
	var messages []*sb.Message
	var wanted []string
	for i := range 100 {
		wanted = append(wanted, fmt.Sprintf("body %d", i))
		messages = append(messages, &sb.Message{Body: []byte(wanted[i]), MessageID: to.Ptr(fmt.Sprintf("id %d", i))})
	}
	c.sender(t.entity()).sendBatch(messages...)
	receiver := c.receiver(t.entity(), nil)
	last := int64(0)
	for i, message := range receiver.completes(wanted...) {
		expect(message.MessageID, *messages[i].MessageID, "id")
		expect(*message.SequenceNumber > last, true, "sequence numbers rise")
		last = *message.SequenceNumber
	}
	receiver.closeEmpty()
}

func sendLarge(t *T) {
	c := t.connect()
	defer c.close()
	sent := pattern(large)
	c.send(t.entity(), &sb.Message{Body: sent})
	receiver := c.receiver(t.entity(), nil)
	message := receiver.one()
	expect(bytes.Equal(message.Body, sent), true, "the body is the one sent")
	receiver.complete(message)
	receiver.closeEmpty()
}

func complete(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("1", "2", "3")...)
	receiver := c.receiver(t.entity(), nil)
	for _, wanted := range []string{"1", "2", "3"} {
		receiver.completes(wanted)
	}
	receiver.closeEmpty()
	// A token settles from elsewhere.
	c.send(t.entity(), text("4"))
	receiver = c.receiver(t.entity(), nil)
	token := receiver.one().LockToken
	other := t.connect()
	defer other.close()
	elsewhere := other.receiver(t.entity(), nil)
	elsewhere.complete(&sb.ReceivedMessage{LockToken: token})
	receiver.close()
	elsewhere.closeEmpty()
}

func abandon(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("again", "later")...)
	receiver := c.receiver(t.entity(), nil)
	for failed := range 3 {
		message := receiver.one()
		expect(see(message), seen{"again", failed}, "body and failed deliveries")
		receiver.abandon(message)
	}
	for _, wanted := range []seen{{"again", 3}, {"later", 0}} {
		message := receiver.one()
		expect(see(message), wanted, "body and failed deliveries")
		receiver.complete(message)
	}
	receiver.closeEmpty()
}

func deadLetters(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("bad", "good")...)
	receiver := c.receiver(t.entity(), nil)
	receiver.deadLetter(receiver.one(), "unreadable", "it made no sense")
	receiver.completes("good")
	receiver.closeEmpty()
	dead := c.receiver(t.entity(), deadLetter)
	message := dead.completes("bad")[0]
	expect(*message.DeadLetterReason, "unreadable", "reason")
	expect(*message.DeadLetterErrorDescription, "it made no sense", "description")
	dead.closeEmpty()
}

// The queue allows three deliveries.
func maxDelivery(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), text("poison"))
	receiver := c.receiver(t.entity(), nil)
	for failed := range 3 {
		message := receiver.one()
		expect(see(message), seen{"poison", failed}, "body and failed deliveries")
		receiver.abandon(message)
	}
	receiver.closeEmpty()
	dead := c.receiver(t.entity(), deadLetter)
	expect(*dead.completes("poison")[0].DeadLetterReason, "MaxDeliveryCountExceeded", "reason")
	dead.closeEmpty()
}

// The queue locks for five seconds.
func lockRenewal(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), text("slow work"))
	receiver := must(c.NewReceiverForQueue(t.entity(), nil))
	in := inbox{receiver, t}
	message := in.one()
	for range 2 {
		until := *message.LockedUntil
		time.Sleep(3 * time.Second)
		check(receiver.RenewMessageLock(t.ctx, message, nil))
		expect(message.LockedUntil.After(until), true, "the lock lasts longer")
	}
	in.complete(message)
	in.closeEmpty()
}

// The queue locks for five seconds.
func lockExpiry(t *T) {
	c := t.connect()
	defer c.close()
	c.send(t.entity(), texts("first", "second")...)
	receiver := must(c.NewReceiverForQueue(t.entity(), nil))
	in, other := inbox{receiver, t}, c.receiver(t.entity(), nil)
	late := in.one()
	expect(see(late), seen{"first", 0}, "body and failed deliveries")
	other.completes("second")
	again := other.one()
	expect(see(again), seen{"first", 1}, "body and failed deliveries")
	expect(again.SequenceNumber, late.SequenceNumber, "sequence number")
	expectCode(in.CompleteMessage(t.ctx, late, nil), sb.CodeLockLost, "a late settlement")
	expectCode(receiver.RenewMessageLock(t.ctx, late, nil), sb.CodeLockLost, "a late renewal")
	other.complete(again)
	other.closeEmpty()
	in.closeEmpty()
}

func receiveAndDelete(t *T) {
	c := t.connect()
	defer c.close()
	var wanted []string
	for i := range 10 {
		wanted = append(wanted, fmt.Sprint(i))
	}
	c.send(t.entity(), texts(wanted...)...)
	receiver := c.receiver(t.entity(), deletes)
	expect(bodies(receiver.take(10)), wanted, "bodies")
	receiver.close()
	c.expectEmpty(t.entity())
}

func peek(t *T) {
	c := t.connect()
	defer c.close()
	receiver := c.receiver(t.entity(), nil)
	look := func(count int) []string {
		found := must(receiver.PeekMessages(t.ctx, count, nil))
		for _, message := range found {
			expect(message.State, sb.MessageStateActive, "state")
		}
		return bodies(found)
	}
	expect(len(look(5)), 0, "messages in an empty queue")
	c.send(t.entity(), texts("0", "1", "2", "3", "4")...)
	locked := receiver.one()
	expect(look(3), []string{"0", "1", "2"}, "peeked, the locked one among them")
	expect(look(10), []string{"3", "4"}, "peeked next")
	expect(len(look(5)), 0, "messages beyond the last")
	expect(len(receiver.peek()), 5, "peeked from the first on")
	receiver.complete(locked)
	for _, message := range receiver.completes("1", "2", "3", "4") {
		expect(see(message).failed, 0, "failed deliveries after peeking")
	}
	receiver.closeEmpty()
}

func prefetch(t *T) {
	c := t.connect()
	defer c.close()
	var wanted []string
	for i := range 50 {
		wanted = append(wanted, fmt.Sprint(i))
	}
	c.sender(t.entity()).sendBatch(texts(wanted...)...)
	receiver := c.receiver(t.entity(), nil)
	for i := 0; i < 50; i += 10 {
		for _, message := range receiver.completes(wanted[i : i+10]...) {
			expect(see(message).failed, 0, "failed deliveries")
		}
	}
	receiver.closeEmpty()
}

// The client drains nothing. What comes for the credit that a receive has left over it gives back, uncounted,
// as often as there is credit; then it stays for others, in its order.
func drain(t *T) {
	c := t.connect()
	defer c.close()
	first, second := c.receiver(t.entity(), nil), c.receiver(t.entity(), nil)
	first.nothing("messages")
	c.send(t.entity(), texts("1", "2", "3")...)
	time.Sleep(empty)
	for _, message := range second.completes("1", "2", "3") {
		expect(see(message).failed, 0, "failed deliveries")
	}
	first.close()
	second.closeEmpty()
}

func wrongKey(t *T) {
	wrong := t.connectWith("WRONG_KEY", noRetries)
	sender := wrong.sender(t.entity())
	expectCode(sender.SendMessage(t.ctx, text("not allowed"), nil), sb.CodeUnauthorizedAccess, "sending")
	_, err := wrong.receiver(t.entity(), nil).ReceiveMessages(t.ctx, 1, nil)
	expectCode(err, sb.CodeUnauthorizedAccess, "receiving")
	wrong.close()
	c := t.connect()
	defer c.close()
	c.expectEmpty(t.entity())
}

func missingEntity(t *T) {
	c := t.connect()
	defer c.close()
	expectMissing(c.sender(t.entity()).SendMessage(t.ctx, text("lost"), nil), "sending")
	_, err := c.receiver(t.entity(), nil).ReceiveMessages(t.ctx, 1, nil)
	expectMissing(err, "receiving")
}

func tooLarge(t *T) {
	c := t.connect()
	defer c.close()
	sender := c.sender(t.entity())
	message := sb.Message{Body: make([]byte, oversize)}
	refused := func(err error, what string) {
		if !errors.Is(err, sb.ErrMessageTooLarge) {
			fail("%s: %v", what, err)
		}
	}
	refused(sender.SendMessage(t.ctx, &message, nil), "a message")
	batch := must(sender.NewMessageBatch(t.ctx, nil))
	refused(batch.AddMessage(&message, nil), "a message of a batch")
	sender.send(text("small"))
	receiver := c.receiver(t.entity(), nil)
	receiver.completes("small")
	receiver.closeEmpty()
}

// Beside the idle links, a client waits for a session until the broker says that there is none: the queue is
// one with sessions that this client leaves alone otherwise.
func stayIdle(t *T) {
	c := t.connect()
	defer c.close()
	waiting := t.connect()
	defer waiting.close()
	none := make(chan error, 1)
	go func() {
		_, err := waiting.AcceptNextSessionForQueue(t.ctx, "go.list-sessions", nil)
		none <- err
	}()
	sender, receiver := c.sender(t.entity()), c.receiver(t.entity(), nil)
	sender.send(text("before"))
	receiver.completes("before")
	time.Sleep(idle)
	sender.send(text("after"))
	receiver.completes("after")
	expectCode(<-none, sb.CodeTimeout, "waiting for a session")
}

func reconnect(t *T) {
	c := t.connectWith(key, sb.RetryOptions{})
	defer c.close()
	sender, receiver := c.sender(t.entity()), c.receiver(t.entity(), nil)
	sender.sendBatch(texts("done", "locked", "kept")...)
	messages := receiver.take(2)
	expect(bodies(messages), []string{"done", "locked"}, "bodies")
	receiver.complete(messages[0])
	waitForRestart()
	sender.send(text("new"))
	ctx, cancel := within(t, time.Minute)
	defer cancel()
	var found []string
	// A receive that finds its link gone gives no messages and no error; the next one attaches again.
	for len(found) < 3 {
		more := must(receiver.ReceiveMessages(ctx, 3-len(found), nil))
		receiver.complete(more...)
		found = append(found, bodies(more)...)
	}
	expect(found, []string{"locked", "kept", "new"}, "bodies")
	receiver.closeEmpty()
}
