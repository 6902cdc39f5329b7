package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

// The administration client always speaks https, also in the mode of the emulator.
var management = []scenario{
	{"manage-queues", manageQueues},
	{"manage-topics", manageTopics},
	{"manage-rules", manageRules},
	{"manage-access", manageAccess},
	{"manage-namespace", manageNamespace},
}

// More than a page.
const many = 105

func (t *T) admin(key string) *admin.Client {
	return must(admin.NewClientFromConnectionString(t.connectionString(key), nil))
}

// fails wants an answer with that status.
func fails(err error, status int, what string) {
	var found *azcore.ResponseError
	if !errors.As(err, &found) {
		fail("%s: %v (%T)", what, err, err)
	}
	expect(found.StatusCode, status, what)
}

// gone deletes what an earlier run may have left.
func gone(err error) {
	if err != nil {
		fails(err, http.StatusNotFound, "deleting")
	}
}

// pages puts together what a pager has.
func pages[P, V any](t *T, pager *runtime.Pager[P], items func(P) []V) []V {
	var all []V
	for pager.More() {
		all = append(all, items(must(pager.NextPage(t.ctx)))...)
	}
	return all
}

func names[V any](items []V, name func(V) string) []string {
	var all []string
	for _, item := range items {
		all = append(all, name(item))
	}
	return all
}

func contains(all []string, wanted ...string) {
	set := map[string]int{}
	for _, name := range all {
		set[name]++
	}
	for _, name := range wanted {
		expect(set[name], 1, "how often "+name+" is listed")
	}
}

func manageQueues(t *T) {
	a := t.admin(key)
	name, target := "0.go.manage/queue", "0.go.manage/target"
	for _, left := range []string{name, target} {
		_, err := a.DeleteQueue(t.ctx, left, nil)
		gone(err)
	}
	expect(must(a.GetQueue(t.ctx, name, nil)), nil, "a queue that is missing")
	expect(must(a.GetQueueRuntimeProperties(t.ctx, name, nil)), nil, "a queue that is missing")
	plain := must(a.CreateQueue(t.ctx, target, nil))
	expect(plain.QueueName, target, "name")
	expect(*plain.MaxSizeInMegabytes, 1024, "size")
	expect(*plain.MaxDeliveryCount, 10, "deliveries")
	expect(*plain.LockDuration, "PT1M", "lock")
	expect(*plain.RequiresSession, false, "sessions")
	expect(*plain.Status, admin.EntityStatusActive, "status")
	expect(*plain.MaxMessageSizeInKilobytes, 1024, "size of messages")
	expect(strings.HasPrefix(*plain.DefaultMessageTimeToLive, "P10675199D"), true, "time to live")
	_, err := a.CreateQueue(t.ctx, target, nil)
	fails(err, http.StatusConflict, "a second queue of a name")
	// The client signs a token for what is forwarded to, word for word, so a name alone is not enough.
	created := admin.QueueProperties{
		LockDuration:                        to.Ptr("PT30S"),
		MaxSizeInMegabytes:                  to.Ptr(int32(2048)),
		RequiresDuplicateDetection:          to.Ptr(true),
		RequiresSession:                     to.Ptr(false),
		DuplicateDetectionHistoryTimeWindow: to.Ptr("PT5M"),
		DefaultMessageTimeToLive:            to.Ptr("P14D"),
		DeadLetteringOnMessageExpiration:    to.Ptr(true),
		MaxDeliveryCount:                    to.Ptr(int32(2147483647)),
		EnableBatchedOperations:             to.Ptr(false),
		Status:                              to.Ptr(admin.EntityStatusActive),
		AutoDeleteOnIdle:                    to.Ptr("PT10M"),
		EnablePartitioning:                  to.Ptr(true),
		ForwardTo:                           to.Ptr(fmt.Sprintf("sb://%s:%d/%s", t.host, t.port, target)),
		UserMetadata:                        to.Ptr("<mine> & 'yours' é"),
		MaxMessageSizeInKilobytes:           to.Ptr(int64(2048)),
	}
	same := func(found admin.QueueProperties) {
		expect(found, created, "properties")
	}
	same(must(a.CreateQueue(t.ctx, name, &admin.CreateQueueOptions{Properties: &created})).QueueProperties)
	found := must(a.GetQueue(t.ctx, name, nil))
	same(found.QueueProperties)
	change := found.QueueProperties
	change.MaxDeliveryCount, change.ForwardTo = to.Ptr(int32(3)), nil
	change.ForwardDeadLetteredMessagesTo = created.ForwardTo
	must(a.UpdateQueue(t.ctx, name, change, nil))
	found = must(a.GetQueue(t.ctx, name, nil))
	expect(*found.MaxDeliveryCount, 3, "deliveries")
	expect(found.ForwardTo, nil, "where it forwards to")
	expect(found.ForwardDeadLetteredMessagesTo, created.ForwardTo, "where dead letters go")
	// As it came.
	before := must(a.GetQueue(t.ctx, target, nil))
	must(a.UpdateQueue(t.ctx, target, before.QueueProperties, nil))
	expect(must(a.GetQueue(t.ctx, target, nil)), before, "what was sent back")
	change = found.QueueProperties
	change.RequiresSession = to.Ptr(true)
	_, err = a.UpdateQueue(t.ctx, name, change, nil)
	fails(err, http.StatusBadRequest, "a change of what cannot be changed")
	for _, wrong := range []admin.QueueProperties{{LockDuration: to.Ptr("P1D")}, {ForwardTo: to.Ptr(*created.ForwardTo + "2")}} {
		_, err = a.CreateQueue(t.ctx, name+"2", &admin.CreateQueueOptions{Properties: &wrong})
		fails(err, http.StatusBadRequest, "properties out of bounds")
	}
	countQueue(t, a, target)
	listed := pages(t, a.NewListQueuesPager(nil), func(p admin.ListQueuesResponse) []admin.QueueItem { return p.Queues })
	contains(names(listed, func(q admin.QueueItem) string { return q.QueueName }), name, target, "go.send-one")
	must(a.DeleteQueue(t.ctx, name, nil))
	_, err = a.DeleteQueue(t.ctx, name, nil)
	fails(err, http.StatusNotFound, "a queue that is deleted already")
	_, err = a.UpdateQueue(t.ctx, name, found.QueueProperties, nil)
	fails(err, http.StatusNotFound, "a queue that is deleted")
	must(a.DeleteQueue(t.ctx, target, nil))
}

// countQueue fills a queue and reads its counts.
func countQueue(t *T, a *admin.Client, queue string) {
	c := t.connect()
	defer c.close()
	sender := c.sender(queue)
	sender.send(texts("a", "b")...)
	must(sender.ScheduleMessages(t.ctx, texts("c"), time.Now().Add(24*time.Hour), nil))
	receiver := c.receiver(queue, nil)
	receiver.deadLetter(receiver.one(), "unreadable", "")
	receiver.close()
	found := must(a.GetQueueRuntimeProperties(t.ctx, queue, nil))
	expect(found.SizeInBytes > 0, true, "size")
	expect(found.AccessedAt.Before(found.CreatedAt), false, "accessed before it was created")
	counts := []int32{
		found.ActiveMessageCount, found.DeadLetterMessageCount, found.ScheduledMessageCount,
		found.TransferMessageCount, found.TransferDeadLetterMessageCount,
	}
	expect(counts, []int32{1, 1, 1, 0, 0}, "counts")
	expect(found.TotalMessageCount, 3, "count")
}

func manageTopics(t *T) {
	a := t.admin(key)
	const name = "0.go.manage/topic"
	_, err := a.DeleteTopic(t.ctx, name, nil)
	gone(err)
	expect(must(a.GetTopic(t.ctx, name, nil)), nil, "a topic that is missing")
	_, err = a.CreateSubscription(t.ctx, name, "s", nil)
	fails(err, http.StatusNotFound, "a subscription of a topic that is missing")
	created := admin.TopicProperties{
		MaxSizeInMegabytes:                  to.Ptr(int32(3072)),
		RequiresDuplicateDetection:          to.Ptr(true),
		DefaultMessageTimeToLive:            to.Ptr("P1D"),
		DuplicateDetectionHistoryTimeWindow: to.Ptr("PT5M"),
		EnableBatchedOperations:             to.Ptr(true),
		Status:                              to.Ptr(admin.EntityStatusActive),
		AutoDeleteOnIdle:                    to.Ptr("PT10M"),
		EnablePartitioning:                  to.Ptr(true),
		SupportOrdering:                     to.Ptr(false),
		UserMetadata:                        to.Ptr("mine"),
		MaxMessageSizeInKilobytes:           to.Ptr(int64(2048)),
	}
	expect(must(a.CreateTopic(t.ctx, name, &admin.CreateTopicOptions{Properties: &created})).TopicProperties, created, "topic")
	_, err = a.CreateTopic(t.ctx, name, nil)
	fails(err, http.StatusConflict, "a second topic of a name")
	_, err = a.CreateQueue(t.ctx, name, nil)
	fails(err, http.StatusConflict, "a queue with the name of a topic")
	created.Status = to.Ptr(admin.EntityStatusSendDisabled)
	must(a.UpdateTopic(t.ctx, name, created, nil))
	expect(must(a.GetTopic(t.ctx, name, nil)).TopicProperties, created, "topic")
	created.Status = to.Ptr(admin.EntityStatusActive)
	must(a.UpdateTopic(t.ctx, name, created, nil))
	manageSubscriptions(t, a, name)
	listed := pages(t, a.NewListTopicsPager(nil), func(p admin.ListTopicsResponse) []admin.TopicItem { return p.Topics })
	contains(names(listed, func(item admin.TopicItem) string { return item.TopicName }), name, "go.publish")
	running := pages(t, a.NewListTopicsRuntimePropertiesPager(nil),
		func(p admin.ListTopicsRuntimePropertiesResponse) []admin.TopicRuntimePropertiesItem {
			return p.TopicRuntimeProperties
		})
	contains(names(running, func(item admin.TopicRuntimePropertiesItem) string { return item.TopicName }), name)
	must(a.DeleteTopic(t.ctx, name, nil))
	_, err = a.DeleteTopic(t.ctx, name, nil)
	fails(err, http.StatusNotFound, "a topic that is deleted already")
	expect(must(a.GetSubscription(t.ctx, name, "with.all", nil)), nil, "a subscription of a topic that is deleted")
}

func manageSubscriptions(t *T, a *admin.Client, topic string) {
	created := admin.SubscriptionProperties{
		LockDuration:                                    to.Ptr("PT30S"),
		RequiresSession:                                 to.Ptr(true),
		DefaultMessageTimeToLive:                        to.Ptr("P1D"),
		DeadLetteringOnMessageExpiration:                to.Ptr(true),
		EnableDeadLetteringOnFilterEvaluationExceptions: to.Ptr(false),
		MaxDeliveryCount:                                to.Ptr(int32(4)),
		Status:                                          to.Ptr(admin.EntityStatusActive),
		AutoDeleteOnIdle:                                to.Ptr("PT10M"),
		EnableBatchedOperations:                         to.Ptr(false),
		UserMetadata:                                    to.Ptr("mine"),
	}
	create := func(name string, properties *admin.SubscriptionProperties) admin.SubscriptionProperties {
		options := &admin.CreateSubscriptionOptions{Properties: properties}
		return must(a.CreateSubscription(t.ctx, topic, name, options)).SubscriptionProperties
	}
	expect(create("with.all", &created), created, "subscription")
	created.MaxDeliveryCount = to.Ptr(int32(5))
	must(a.UpdateSubscription(t.ctx, topic, "with.all", created, nil))
	expect(must(a.GetSubscription(t.ctx, topic, "with.all", nil)).SubscriptionProperties, created, "subscription")
	create("plain", nil)
	_, err := a.CreateSubscription(t.ctx, topic, "plain", nil)
	fails(err, http.StatusConflict, "a second subscription of a name")
	expect(must(a.GetSubscription(t.ctx, topic, "none", nil)), nil, "a subscription that is missing")
	own := admin.RuleProperties{Name: "own", Filter: &admin.SQLFilter{Expression: "size > 5"}}
	create("ruled", &admin.SubscriptionProperties{DefaultRule: &own})
	expect(must(a.GetRule(t.ctx, topic, "ruled", "own", nil)).Filter, own.Filter, "filter")
	expect(must(a.GetRule(t.ctx, topic, "ruled", "$Default", nil)), nil, "a rule that is missing")
	must(a.DeleteSubscription(t.ctx, topic, "ruled", nil))
	c := t.connect()
	defer c.close()
	c.send(topic, inSession("s", "a"))
	found := must(a.GetSubscriptionRuntimeProperties(t.ctx, topic, "plain", nil))
	expect([]int64{int64(found.ActiveMessageCount), found.TotalMessageCount}, []int64{1, 1}, "counts")
	running := must(a.GetTopicRuntimeProperties(t.ctx, topic, nil))
	expect([]int32{running.SubscriptionCount, running.ScheduledMessageCount}, []int32{2, 0}, "counts")
	must(a.DeleteSubscription(t.ctx, topic, "plain", nil))
	_, err = a.DeleteSubscription(t.ctx, topic, "plain", nil)
	fails(err, http.StatusNotFound, "a subscription that is deleted already")
	var wanted []string
	for i := range many {
		wanted = append(wanted, fmt.Sprintf("many-%03d", i))
		create(wanted[i], nil)
	}
	wanted = append(wanted, "with.all")
	for _, size := range []int32{0, 10} {
		options := &admin.ListSubscriptionsOptions{MaxPageSize: size}
		listed := pages(t, a.NewListSubscriptionsPager(topic, options),
			func(p admin.ListSubscriptionsResponse) []admin.SubscriptionPropertiesItem { return p.Subscriptions })
		expect(names(listed, func(item admin.SubscriptionPropertiesItem) string { return item.SubscriptionName }), wanted, "subscriptions")
	}
}

func manageRules(t *T) {
	a := t.admin(key)
	const topic = "0.go.manage/rules"
	_, err := a.DeleteTopic(t.ctx, topic, nil)
	gone(err)
	must(a.CreateTopic(t.ctx, topic, nil))
	must(a.CreateSubscription(t.ctx, topic, "s", nil))
	get := func(name string) admin.RuleProperties {
		return must(a.GetRule(t.ctx, topic, "s", name, nil)).RuleProperties
	}
	create := func(name string, filter admin.RuleFilter, action admin.RuleAction) {
		options := admin.CreateRuleOptions{Name: to.Ptr(name), Filter: filter, Action: action}
		must(a.CreateRule(t.ctx, topic, "s", &options))
		expect(get(name), admin.RuleProperties{Name: name, Filter: filter, Action: action}, "rule")
	}
	expect(get("$Default").Filter, admin.RuleFilter(&admin.TrueFilter{}), "filter")
	// The client has no spans of time, and writes every whole number as an int.
	values := map[string]any{
		"text": "a & b", "int": int64(1), "float": 1.5, "flag": true,
		"when": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	create("correlation", &admin.CorrelationFilter{
		ApplicationProperties: values,
		ContentType:           to.Ptr("ct"),
		CorrelationID:         to.Ptr("c"),
		MessageID:             to.Ptr("m"),
		ReplyTo:               to.Ptr("r"),
		ReplyToSessionID:      to.Ptr("rs"),
		SessionID:             to.Ptr("s"),
		Subject:               to.Ptr("l"),
		To:                    to.Ptr("t"),
	}, nil)
	create("sql", &admin.SQLFilter{Expression: "a < @b AND c = 'd'", Parameters: map[string]any{"@b": int64(5)}},
		&admin.SQLAction{Expression: "SET a = @b", Parameters: map[string]any{"@b": "x"}})
	create("all", &admin.TrueFilter{}, nil)
	create("none", &admin.FalseFilter{}, nil)
	changed := admin.RuleProperties{Name: "none", Filter: &admin.SQLFilter{Expression: "size = 7"}}
	must(a.UpdateRule(t.ctx, topic, "s", changed))
	expect(get("none"), changed, "rule")
	_, err = a.CreateRule(t.ctx, topic, "s", &admin.CreateRuleOptions{Name: to.Ptr("none")})
	fails(err, http.StatusConflict, "a second rule of a name")
	wrong := admin.CreateRuleOptions{Name: to.Ptr("wrong"), Filter: &admin.SQLFilter{Expression: "size >"}}
	_, err = a.CreateRule(t.ctx, topic, "s", &wrong)
	fails(err, http.StatusBadRequest, "no expression")
	expect(must(a.GetRule(t.ctx, topic, "s", "missing", nil)), nil, "a rule that is missing")
	listed := pages(t, a.NewListRulesPager(topic, "s", nil), func(p admin.ListRulesResponse) []admin.RuleProperties { return p.Rules })
	contains(names(listed, func(r admin.RuleProperties) string { return r.Name }), "$Default", "correlation", "sql", "all", "none")
	for _, rule := range listed {
		must(a.DeleteRule(t.ctx, topic, "s", rule.Name, nil))
	}
	_, err = a.DeleteRule(t.ctx, topic, "s", "all", nil)
	fails(err, http.StatusNotFound, "a rule that is deleted already")
	number := admin.CorrelationFilter{ApplicationProperties: map[string]any{"size": 7}}
	must(a.CreateRule(t.ctx, topic, "s", &admin.CreateRuleOptions{Name: to.Ptr("number"), Filter: &number}))
	c := t.connect()
	defer c.close()
	c.send(topic, sized("six", 6, "red"), sized("seven", 7, "red"))
	c.taken(topic, "s", "seven")
	must(a.DeleteTopic(t.ctx, topic, nil))
}

func manageAccess(t *T) {
	a := t.admin(key)
	const queue, other = "0.go.manage/own", "0.go.manage/other"
	for _, left := range []string{queue, other} {
		_, err := a.DeleteQueue(t.ctx, left, nil)
		gone(err)
		if left == other {
			must(a.CreateQueue(t.ctx, other, nil))
		}
	}
	first, second, third := newKey(1), newKey(2), newKey(3)
	rights := []admin.AccessRight{admin.AccessRightSend, admin.AccessRightListen}
	own := admin.AuthorizationRule{AccessRights: rights, KeyName: to.Ptr("own"), PrimaryKey: to.Ptr(first), SecondaryKey: to.Ptr(second)}
	properties := admin.QueueProperties{AuthorizationRules: []admin.AuthorizationRule{own}}
	must(a.CreateQueue(t.ctx, queue, &admin.CreateQueueOptions{Properties: &properties}))
	found := must(a.GetQueue(t.ctx, queue, nil))
	rule := found.AuthorizationRules[0]
	expect(rule.CreatedTime != nil && rule.ModifiedTime != nil, true, "times")
	rule.CreatedTime, rule.ModifiedTime = nil, nil
	expect(rule, own, "rule")
	attempt := func(entity, key string) error {
		connection := strings.ReplaceAll(t.connectionString(key), "RootManageSharedAccessKey", "own")
		c := t.open(connection, &sb.ClientOptions{RetryOptions: noRetries})
		defer c.close()
		return c.sender(entity).SendMessage(t.ctx, text("a"), nil)
	}
	check(attempt(queue, first))
	check(attempt(queue, second))
	expectCode(attempt(other, first), sb.CodeUnauthorizedAccess, "another queue")
	expectCode(attempt(queue, third), sb.CodeUnauthorizedAccess, "another key")
	found.AuthorizationRules[0].PrimaryKey = to.Ptr(third)
	must(a.UpdateQueue(t.ctx, queue, found.QueueProperties, nil))
	check(attempt(queue, third))
	expectCode(attempt(queue, first), sb.CodeUnauthorizedAccess, "a key that was changed")
	must(a.DeleteQueue(t.ctx, queue, nil))
	must(a.DeleteQueue(t.ctx, other, nil))
}

func manageNamespace(t *T) {
	found := must(t.admin(key).GetNamespaceProperties(t.ctx, nil))
	expect(found.SKU, "Premium", "kind")
	expect(found.MessagingUnits, to.Ptr(int64(1)), "units")
	expect(found.Name, strings.Split(t.host, ".")[0], "name")
	expect(found.CreatedTime.After(time.Now()), false, "created in the future")
	wrong := t.admin("wrong")
	_, err := wrong.GetNamespaceProperties(t.ctx, nil)
	fails(err, http.StatusUnauthorized, "a wrong key")
	_, err = wrong.CreateQueue(t.ctx, "unwanted", nil)
	fails(err, http.StatusUnauthorized, "a wrong key")
}
