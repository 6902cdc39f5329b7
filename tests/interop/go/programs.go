package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

// What two programs that many people run do with this SDK, call by call.
var programs = []scenario{
	{"keda", keda},
	{"dapr", dapr},
}

// KEDA's scaler for Service Bus: the messages that are active in a queue or subscription, or in all whose
// names match an expression. It asks anew every few seconds and reads nothing else.
func keda(t *T) {
	transport := &http.Client{Timeout: 3 * time.Second}
	options := &admin.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: transport}}
	a := must(admin.NewClientFromConnectionString(t.connectionString(key), options))
	queue, topic := t.entity()+".queue", t.entity()
	queueLength := func() int32 {
		return must(a.GetQueueRuntimeProperties(t.ctx, queue, &admin.GetQueueRuntimePropertiesOptions{})).ActiveMessageCount
	}
	queueLengths := func(names *regexp.Regexp) (sum int32) {
		for pager := a.NewListQueuesRuntimePropertiesPager(nil); pager.More(); {
			for _, found := range must(pager.NextPage(t.ctx)).QueueRuntimeProperties {
				if names.FindString(found.QueueName) == found.QueueName {
					sum += found.ActiveMessageCount
				}
			}
		}
		return sum
	}
	subscriptionLengths := func(names *regexp.Regexp) (sum int32) {
		for pager := a.NewListSubscriptionsRuntimePropertiesPager(topic, nil); pager.More(); {
			for _, found := range must(pager.NextPage(t.ctx)).SubscriptionRuntimeProperties {
				if names.FindString(found.SubscriptionName) == found.SubscriptionName {
					sum += found.ActiveMessageCount
				}
			}
		}
		return sum
	}
	ours := regexp.MustCompile(`go\.keda\..*`)
	ours.Longest()
	expect(queueLength(), 0, "messages at first")
	c := t.connect()
	defer c.close()
	sender := c.sender(queue)
	sender.send(texts("1", "2", "3", "bad")...)
	must(sender.ScheduleMessages(t.ctx, texts("later"), time.Now().Add(time.Hour), nil))
	receiver := c.receiver(queue, nil)
	messages := receiver.take(4)
	receiver.deadLetter(messages[3], "unreadable", "")
	expect(queueLength(), 3, "messages that are active, the locked ones among them")
	expect(queueLengths(ours), 3, "messages of the queues that match")
	receiver.complete(messages[0])
	expect(queueLength(), 2, "messages that are active")
	receiver.close()
	c.send(topic, texts("1", "2")...)
	subscriber := c.subscriber(topic, "b", nil)
	subscriber.completes("1")
	subscriber.close()
	length := must(a.GetSubscriptionRuntimeProperties(t.ctx, topic, "b", &admin.GetSubscriptionRuntimePropertiesOptions{}))
	expect(length.ActiveMessageCount, 1, "messages of a subscription")
	expect(subscriptionLengths(regexp.MustCompile("[ab]")), 3, "messages of the subscriptions that match")
	expect(subscriptionLengths(regexp.MustCompile("a")), 2, "messages of the subscriptions that match")
	missing := must(a.GetQueueRuntimeProperties(t.ctx, queue+".none", nil))
	expect(missing, nil, "a queue that is missing")
	none := must(a.GetSubscriptionRuntimeProperties(t.ctx, topic, "none", nil))
	expect(none, nil, "a subscription that is missing")
}

// A sidecar is what Dapr's components for Service Bus share.
type sidecar struct {
	client
	a *admin.Client
}

func (s sidecar) ensureTopic(topic string) {
	if must(s.a.GetTopic(s.t.ctx, topic, nil)) == nil {
		must(s.a.CreateTopic(s.t.ctx, topic, nil))
	}
}

func (s sidecar) ensureSubscription(topic, name string, sessions bool) error {
	s.ensureTopic(topic)
	found := must(s.a.GetSubscription(s.t.ctx, topic, name, nil))
	if found != nil {
		if found.RequiresSession == nil || *found.RequiresSession != sessions {
			return errors.New("the session requirement does not match")
		}
		return nil
	}
	properties := &admin.SubscriptionProperties{
		MaxDeliveryCount:                 to.Ptr(int32(3)),
		LockDuration:                     to.Ptr("PT30S"),
		DefaultMessageTimeToLive:         to.Ptr("PT3600S"),
		AutoDeleteOnIdle:                 to.Ptr("PT600S"),
		DeadLetteringOnMessageExpiration: to.Ptr(true),
	}
	if sessions {
		properties.RequiresSession = to.Ptr(true)
	}
	options := &admin.CreateSubscriptionOptions{Properties: properties}
	_, err := s.a.CreateSubscription(s.t.ctx, topic, name, options)
	return err
}

func (s sidecar) ensureQueue(queue string) {
	if must(s.a.GetQueue(s.t.ctx, queue, nil)) == nil {
		properties := &admin.QueueProperties{LockDuration: to.Ptr("PT30S"), MaxDeliveryCount: to.Ptr(int32(3))}
		must(s.a.CreateQueue(s.t.ctx, queue, &admin.CreateQueueOptions{Properties: properties}))
	}
}

// Dapr's pubsub and binding: they make what is missing, then publish and subscribe, with and without sessions.
func dapr(t *T) {
	options := &sb.ClientOptions{ApplicationID: "dapr-1.16"}
	s := sidecar{t.open(t.connectionString(key), options), t.admin(key)}
	defer s.close()
	const topic, queue, plain, ordered = "0.go.dapr/topic", "0.go.dapr/queue", "app", "app-sessions"
	_, err := s.a.DeleteTopic(t.ctx, topic, nil)
	gone(err)
	_, err = s.a.DeleteQueue(t.ctx, queue, nil)
	gone(err)
	for range 2 {
		check(s.ensureSubscription(topic, plain, false))
		check(s.ensureSubscription(topic, ordered, true))
	}
	if s.ensureSubscription(topic, plain, true) == nil {
		fail("a subscription without sessions has some")
	}
	found := must(s.a.GetSubscription(t.ctx, topic, ordered, nil))
	expect([]string{*found.LockDuration, *found.DefaultMessageTimeToLive, *found.AutoDeleteOnIdle},
		[]string{"PT30S", "PT1H", "PT10M"}, "durations")
	expect(*found.MaxDeliveryCount, 3, "deliveries")
	sender := s.sender(topic)
	envelope := func(session string, number int) *sb.Message {
		return &sb.Message{
			Body:        fmt.Appendf(nil, `{"specversion":"1.0","data":{"number":%d}}`, number),
			ContentType: to.Ptr("application/cloudevents+json"),
			MessageID:   to.Ptr(fmt.Sprintf("%s-%d", session, number)),
			SessionID:   to.Ptr(session),
		}
	}
	sender.sendBatch(envelope("x", 1), envelope("y", 1), envelope("x", 2))
	s.readPlain(topic, plain)
	s.readSessions(topic, ordered)
	s.ensureQueue(queue)
	s.ensureQueue(queue)
	s.send(queue, text("bound"))
	receiver := must(s.NewReceiverForQueue(queue, nil))
	in := inbox{receiver, t}
	message := in.one()
	check(receiver.RenewMessageLock(t.ctx, message, nil))
	in.complete(message)
	in.closeEmpty()
	must(s.a.DeleteTopic(t.ctx, topic, nil))
	must(s.a.DeleteQueue(t.ctx, queue, nil))
}

// readPlain receives one message after the other until it is told to stop, and renews the locks meanwhile.
func (s sidecar) readPlain(topic, name string) {
	receiver := must(s.NewReceiverForSubscription(topic, name, nil))
	for _, wanted := range []string{"x-1", "y-1", "x-2"} {
		message := must(receiver.ReceiveMessages(s.t.ctx, 1, nil))[0]
		expect(message.MessageID, wanted, "id")
		check(receiver.RenewMessageLock(s.t.ctx, message, nil))
		check(receiver.CompleteMessage(s.t.ctx, message, nil))
	}
	ctx, cancel := context.WithCancel(s.t.ctx)
	time.AfterFunc(empty, cancel)
	_, err := receiver.ReceiveMessages(ctx, 1, nil)
	expect(errors.Is(err, context.Canceled), true, "told to stop")
	check(receiver.Close(s.t.ctx))
}

// readSessions takes the sessions as they come, and leaves each when it has nothing more for a while.
func (s sidecar) readSessions(topic, name string) {
	got := map[string][]string{}
	for range 2 {
		receiver := must(s.AcceptNextSessionForSubscription(s.t.ctx, topic, name, nil))
		for {
			ctx, cancel := within(s.t, empty)
			messages, err := receiver.ReceiveMessages(ctx, 1, nil)
			cancel()
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			check(err)
			check(receiver.RenewSessionLock(s.t.ctx, nil))
			check(receiver.CompleteMessage(s.t.ctx, messages[0], nil))
			got[receiver.SessionID()] = append(got[receiver.SessionID()], messages[0].MessageID)
		}
		check(receiver.Close(s.t.ctx))
	}
	expect(got, map[string][]string{"x": {"x-1", "x-2"}, "y": {"y-1"}}, "messages of the sessions")
}
