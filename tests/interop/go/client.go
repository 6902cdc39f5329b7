package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

// A client is one of the SDK, with what the scenarios ask of it.
type client struct {
	*sb.Client
	t *T
}

var (
	// A retry would ask again for what is refused.
	noRetries  = sb.RetryOptions{MaxRetries: -1}
	deadLetter = &sb.ReceiverOptions{SubQueue: sb.SubQueueDeadLetter}
	deletes    = &sb.ReceiverOptions{ReceiveMode: sb.ReceiveModeReceiveAndDelete}
)

func (t *T) open(connection string, options *sb.ClientOptions) client {
	return client{must(sb.NewClientFromConnectionString(connection, options)), t}
}

func (t *T) connect() client { return t.connectWith(key, noRetries) }

func (t *T) connectWith(key string, retries sb.RetryOptions) client {
	return t.open(t.connectionString(key), &sb.ClientOptions{RetryOptions: retries})
}

func (c client) close() {
	ctx, cancel := context.WithTimeout(c.t.ctx, answer)
	defer cancel()
	check(c.Close(ctx))
}

// An outbox is a sender.
type outbox struct {
	*sb.Sender
	t *T
}

func (c client) sender(entity string) outbox {
	return outbox{must(c.NewSender(entity, nil)), c.t}
}

func (o outbox) send(messages ...*sb.Message) {
	for _, message := range messages {
		check(o.SendMessage(o.t.ctx, message, nil))
	}
}

func (o outbox) sendBatch(messages ...*sb.Message) {
	batch := must(o.NewMessageBatch(o.t.ctx, nil))
	for _, message := range messages {
		check(batch.AddMessage(message, nil))
	}
	check(o.SendMessageBatch(o.t.ctx, batch, nil))
}

func (o outbox) close() { check(o.Close(o.t.ctx)) }

func (c client) send(entity string, messages ...*sb.Message) {
	sender := c.sender(entity)
	sender.send(messages...)
	sender.close()
}

func texts(bodies ...string) []*sb.Message {
	var messages []*sb.Message
	for _, body := range bodies {
		messages = append(messages, &sb.Message{Body: []byte(body)})
	}
	return messages
}

func text(body string) *sb.Message { return &sb.Message{Body: []byte(body)} }

func inSession(session, body string) *sb.Message {
	return &sb.Message{Body: []byte(body), SessionID: to.Ptr(session)}
}

func sized(body string, size int32, colour string) *sb.Message {
	properties := map[string]any{"size": size}
	return &sb.Message{Body: []byte(body), Subject: to.Ptr(colour), ApplicationProperties: properties}
}

// A source is a receiver of either kind.
type source interface {
	ReceiveMessages(context.Context, int, *sb.ReceiveMessagesOptions) ([]*sb.ReceivedMessage, error)
	ReceiveDeferredMessages(context.Context, []int64, *sb.ReceiveDeferredMessagesOptions) ([]*sb.ReceivedMessage, error)
	PeekMessages(context.Context, int, *sb.PeekMessagesOptions) ([]*sb.ReceivedMessage, error)
	CompleteMessage(context.Context, *sb.ReceivedMessage, *sb.CompleteMessageOptions) error
	AbandonMessage(context.Context, *sb.ReceivedMessage, *sb.AbandonMessageOptions) error
	DeferMessage(context.Context, *sb.ReceivedMessage, *sb.DeferMessageOptions) error
	DeadLetterMessage(context.Context, *sb.ReceivedMessage, *sb.DeadLetterOptions) error
	Close(context.Context) error
}

type inbox struct {
	source
	t *T
}

func (c client) receiver(queue string, options *sb.ReceiverOptions) inbox {
	return inbox{must(c.NewReceiverForQueue(queue, options)), c.t}
}

func (c client) subscriber(topic, name string, options *sb.ReceiverOptions) inbox {
	return inbox{must(c.NewReceiverForSubscription(topic, name, options)), c.t}
}

// take receives exactly that many messages.
func (in inbox) take(count int) []*sb.ReceivedMessage {
	ctx, cancel := context.WithTimeout(in.t.ctx, answer)
	defer cancel()
	var taken []*sb.ReceivedMessage
	for len(taken) < count {
		more, err := in.ReceiveMessages(ctx, count-len(taken), nil)
		if err != nil {
			fail("%d messages of %d: %v", len(taken), count, err)
		}
		taken = append(taken, more...)
	}
	return taken
}

func (in inbox) one() *sb.ReceivedMessage { return in.take(1)[0] }

func (in inbox) complete(messages ...*sb.ReceivedMessage) {
	for _, message := range messages {
		check(in.CompleteMessage(in.t.ctx, message, nil))
	}
}

func (in inbox) abandon(message *sb.ReceivedMessage) {
	check(in.AbandonMessage(in.t.ctx, message, nil))
}

func (in inbox) deadLetter(message *sb.ReceivedMessage, reason, description string) {
	options := sb.DeadLetterOptions{Reason: to.Ptr(reason), ErrorDescription: to.Ptr(description)}
	check(in.DeadLetterMessage(in.t.ctx, message, &options))
}

func (in inbox) deferred(numbers ...int64) ([]*sb.ReceivedMessage, error) {
	return in.ReceiveDeferredMessages(in.t.ctx, numbers, nil)
}

// peek looks at messages from the first on.
func (in inbox) peek() []*sb.ReceivedMessage {
	return must(in.PeekMessages(in.t.ctx, 10, &sb.PeekMessagesOptions{FromSequenceNumber: to.Ptr(int64(1))}))
}

// completes receives the messages with these bodies, in this order, and completes them.
func (in inbox) completes(wanted ...string) []*sb.ReceivedMessage {
	messages := in.take(len(wanted))
	expect(bodies(messages), wanted, "bodies")
	in.complete(messages...)
	return messages
}

func (in inbox) nothing(what string) {
	ctx, cancel := context.WithTimeout(in.t.ctx, empty)
	defer cancel()
	left, err := in.ReceiveMessages(ctx, 10, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		check(err)
	}
	expect(len(left), 0, what)
}

func (in inbox) close() { check(in.Close(in.t.ctx)) }

func (in inbox) closeEmpty() {
	in.nothing("messages left")
	in.close()
}

func (c client) expectEmpty(queue string) { c.receiver(queue, nil).closeEmpty() }

// taken is what a subscription has, which has to be just that.
func (c client) taken(topic, name string, wanted ...string) []*sb.ReceivedMessage {
	subscriber := c.subscriber(topic, name, nil)
	var messages []*sb.ReceivedMessage
	if len(wanted) > 0 {
		messages = subscriber.completes(wanted...)
	}
	subscriber.closeEmpty()
	return messages
}

func bodies(messages []*sb.ReceivedMessage) []string {
	var found []string
	for _, message := range messages {
		found = append(found, string(message.Body))
	}
	return found
}

// seen is the body, and how often the delivery failed before. The client counts this delivery too.
type seen struct {
	body   string
	failed int
}

func see(message *sb.ReceivedMessage) seen {
	return seen{string(message.Body), int(message.DeliveryCount) - 1}
}

func expectCode(err error, wanted sb.Code, what string) {
	var found *sb.Error
	if !errors.As(err, &found) {
		fail("%s: %v (%T) instead of an error with the code %s", what, err, err, wanted)
	}
	expect(found.Code, wanted, what)
}

// expectMissing wants the refusal of a link to an entity that is not there. The client has a code for what the
// token is refused for alone, and hands out anything else as it came.
func expectMissing(err error, what string) {
	var found *amqp.Error
	if !errors.As(err, &found) {
		fail("%s: %v (%T)", what, err, err)
	}
	expect(found.Condition, amqp.ErrCondNotFound, what)
	expect(strings.Contains(found.Description, "could not be found"), true, found.Description)
}

func within(t *T, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.ctx, limit)
}
