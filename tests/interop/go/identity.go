package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
)

var identities = []scenario{
	{"identity", identity},
	{"identity-management", identityManagement},
}

const (
	dataSender   = "Azure Service Bus Data Sender"
	dataReceiver = "Azure Service Bus Data Receiver"
	dataOwner    = "Azure Service Bus Data Owner"
	servicebus   = "https://servicebus.azure.net"
)

// A credential is as azidentity has them; issuer.py says what can be asked for.
type credential url.Values

func asking(pairs ...string) credential {
	asked := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		asked.Set(pairs[i], pairs[i+1])
	}
	return credential(asked)
}

func (c credential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (none azcore.AccessToken, _ error) {
	if len(options.Scopes) != 1 || !strings.HasPrefix(options.Scopes[0], servicebus) {
		return none, fmt.Errorf("a token for %v was asked for", options.Scopes)
	}
	address := os.Getenv("INTEROP_ISSUER") + "/token?" + url.Values(c).Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return none, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return none, err
	}
	defer answer.Body.Close()
	var token struct {
		Token     string `json:"access_token"`
		ExpiresOn int64  `json:"expires_on"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&token); err != nil {
		return none, err
	}
	return azcore.AccessToken{Token: token.Token, ExpiresOn: time.Unix(token.ExpiresOn, 0)}, nil
}

// address is where the broker is, for a client whose namespace is the host alone.
func (t *T) address() string { return fmt.Sprintf("%s:%d", t.host, t.port) }

func (t *T) signIn(known credential) client {
	options := &sb.ClientOptions{RetryOptions: noRetries, CustomEndpoint: t.address()}
	return client{must(sb.NewClient(t.host, known, options)), t}
}

func identity(t *T) {
	for body, known := range map[string]credential{
		"one": asking("role", dataSender, "alg", "RS256"),
		"two": asking("role", dataOwner, "alg", "ES256"),
	} {
		c := t.signIn(known)
		c.send(t.entity(), text(body))
		receiver := t.signIn(asking("role", dataReceiver, "alg", "ES256"))
		in := receiver.receiver(t.entity(), nil)
		in.completes(body)
		in.closeEmpty()
		receiver.close()
		c.close()
	}
	for _, known := range []credential{
		asking("role", dataReceiver),
		asking("role", "Reader"),
		asking("role", dataOwner, "audience", "https://storage.azure.com"),
		asking("role", dataOwner, "forged", "1"),
		asking("role", dataOwner, "seconds", "-5"),
	} {
		c := t.signIn(known)
		err := c.sender(t.entity()).SendMessage(t.ctx, text("never"), nil)
		expectCode(err, sb.CodeUnauthorizedAccess, url.Values(known).Encode())
		c.close()
	}
	c := t.signIn(asking("role", dataSender))
	defer c.close()
	_, err := c.receiver(t.entity(), nil).ReceiveMessages(t.ctx, 1, nil)
	expectCode(err, sb.CodeUnauthorizedAccess, "a sender that receives")
}

func identityManagement(t *T) {
	const queue = "go.identity.made"
	a := must(admin.NewClient(t.address(), asking("role", dataOwner), nil))
	forward := admin.QueueProperties{ForwardTo: to.Ptr("sb://" + t.address() + "/go.identity")}
	must(a.CreateQueue(t.ctx, queue, &admin.CreateQueueOptions{Properties: &forward}))
	expect(must(a.GetQueue(t.ctx, queue, nil)).ForwardTo, forward.ForwardTo, "where it forwards to")
	must(a.DeleteQueue(t.ctx, queue, nil))
	a = must(admin.NewClient(t.address(), asking("role", dataSender), nil))
	_, err := a.GetQueue(t.ctx, "go.identity", nil)
	fails(err, http.StatusUnauthorized, "a sender that manages")
}
