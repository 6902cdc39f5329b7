package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"net"

	"github.com/coder/websocket"

	sb "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

var doors = []scenario{
	{"tls", overTLS},
	{"websocket", overWebSocket},
}

func newKey(octet byte) string {
	return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{octet}, 32))
}

// exchange sends and receives a frame or two, and many of them.
func exchange(c client) {
	defer c.close()
	small, big := pattern(100), pattern(large)
	c.send(c.t.entity(), &sb.Message{Body: small}, &sb.Message{Body: big})
	receiver := c.receiver(c.t.entity(), nil)
	for _, wanted := range [][]byte{small, big} {
		message := receiver.one()
		expect(bytes.Equal(message.Body, wanted), true, "the body is the one sent")
		receiver.complete(message)
	}
	receiver.closeEmpty()
}

// The client asks for a certificate of what the connection string has behind "sb://". With a port there that
// is no name, and the handshake fails; where it connects to can be said apart.
func overTLS(t *T) {
	connection := fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s;", t.host, rule, key)
	exchange(t.open(connection, &sb.ClientOptions{RetryOptions: noRetries, CustomEndpoint: t.address()}))
}

// The SDK has no WebSockets of its own; this is the function of its documentation.
func overWebSocket(t *T) {
	dial := func(ctx context.Context, to sb.NewWebSocketConnArgs) (net.Conn, error) {
		connection, _, err := websocket.Dial(ctx, to.Host, &websocket.DialOptions{Subprotocols: []string{"amqp"}})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), connection, websocket.MessageBinary), nil
	}
	options := &sb.ClientOptions{RetryOptions: noRetries, NewWebSocketConn: dial}
	exchange(t.open(t.plainConnectionString(key), options))
	exchange(t.open(t.connectionString(key), options))
}
