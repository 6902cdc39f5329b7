package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
)

var faults = []scenario{
	{"faults", throughFaults},
}

// A control makes the requests of a broker under test control, for one namespace.
type control struct {
	t         *T
	Rule, Key string
}

func (c control) token() string {
	resource := url.QueryEscape("sb://" + c.t.address() + "/")
	expiry := time.Now().Add(time.Hour).Unix()
	sign := hmac.New(sha256.New, []byte(c.Key))
	fmt.Fprintf(sign, "%s\n%d", resource, expiry)
	signature := url.QueryEscape(base64.StdEncoding.EncodeToString(sign.Sum(nil)))
	return fmt.Sprintf("SharedAccessSignature sr=%s&sig=%s&se=%d&skn=%s", resource, signature, expiry, c.Rule)
}

func (c control) ask(method, path string, body, answer any) {
	sent := must(json.Marshal(body))
	address := fmt.Sprintf("http://%s/$peeklock/%s", c.t.address(), path)
	request := must(http.NewRequestWithContext(c.t.ctx, method, address, bytes.NewReader(sent)))
	request.Header.Set("Authorization", c.token())
	got := must(http.DefaultClient.Do(request))
	defer got.Body.Close()
	if got.StatusCode >= http.StatusBadRequest {
		fail("%s %s: %s", method, path, got.Status)
	}
	if answer != nil {
		check(json.NewDecoder(got.Body).Decode(answer))
	}
}

type fields map[string]any

// The client goes on after what it may try again, and says what it cannot mend.
func throughFaults(t *T) {
	name := "test-" + rand.Text()
	root := control{t, rule, key}
	made := struct{ Rule, Key, ConnectionString string }{}
	queues := []fields{{"name": "q"}, {"name": "s", "requires_session": true}}
	root.ask(http.MethodPut, "namespaces/"+name, fields{"queue": queues}, &made)
	defer root.ask(http.MethodDelete, "namespaces/"+name, nil, nil)
	own := control{t, made.Rule, made.Key}
	inject := func(fault fields) { own.ask(http.MethodPost, "faults", fault, nil) }
	retries := sb.RetryOptions{RetryDelay: 100 * time.Millisecond}
	c := t.open(made.ConnectionString, &sb.ClientOptions{RetryOptions: retries})
	defer c.close()
	sender := c.sender("q")
	var wanted []string
	for i, fault := range []fields{
		{"fault": "server-busy", "entity": "q", "times": 2},
		{"fault": "drop-link", "entity": "q"},
		{"fault": "drop-connection", "entity": "q"},
		{"fault": "drop-link", "entity": "q", "now": true},
	} {
		inject(fault)
		if fault["now"] != nil {
			// What is on its way when the link is dropped may be taken, and is sent again all the same.
			time.Sleep(empty)
		}
		wanted = append(wanted, fmt.Sprintf("%d: after %s", i, fault["fault"]))
		sender.send(text(wanted[i]))
	}
	inject(fields{"fault": "server-busy", "entity": "q", "times": 100})
	var busy *amqp.Error
	if err := sender.SendMessage(t.ctx, text("no"), nil); !errors.As(err, &busy) {
		fail("sending to a busy server: %v", err)
	}
	expect(busy.Condition, "com.microsoft:server-busy", "condition")
	own.ask(http.MethodDelete, "faults", nil, nil)
	inject(fields{"fault": "delay", "entity": "q", "milliseconds": 1500})
	began := time.Now()
	sender.send(text("late"))
	expect(time.Since(began) > 1400*time.Millisecond, true, "the answer came late")
	receiver := c.receiver("q", nil)
	messages := receiver.take(5)
	expect(bodies(messages), append(wanted, "late"), "bodies")
	inject(fields{"fault": "lock-lost", "entity": "q"})
	expectCode(receiver.CompleteMessage(t.ctx, messages[0], nil), sb.CodeLockLost, "a settlement without a lock")
	receiver.complete(messages[1])
	again := receiver.one()
	expect(see(again), seen{wanted[0], 1}, "body and failed deliveries")
	receiver.complete(again)
	c.send("s", inSession("a", "1"))
	_, in := c.accept("s", "a")
	message := in.one()
	inject(fields{"fault": "session-lock-lost", "entity": "s", "session": "a"})
	// It would try three times more, over most of a minute.
	ctx, cancel := within(t, empty)
	defer cancel()
	if err := in.CompleteMessage(ctx, message, nil); err == nil {
		fail("a settlement without the session was taken")
	}
}
