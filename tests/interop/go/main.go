// Command interop-go runs azservicebus, Microsoft's Service Bus client for Go, against a broker: SAS token
// on $cbs, over plain TCP, TLS and WebSockets, and the administration client over https.
//
// The words of the command line and of the output are those of python/harness.py.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

const (
	rule = "RootManageSharedAccessKey"
	key  = "SAS_KEY_VALUE"
	// How long a receiver waits before the test says that a queue is empty.
	empty  = time.Second
	answer = 10 * time.Second
	// Longer than any scenario takes: a client that waits for ever is a failure, not a stop of the tests.
	longest = 150 * time.Second
)

// A scenario is one line of the table in docs/COMPATIBILITY.md.
type scenario struct {
	name string
	run  func(*T)
}

// A T is one run of a scenario.
type T struct {
	ctx  context.Context
	name string
	host string
	port int
}

// entity is the queue or topic of the scenario.
func (t *T) entity() string { return "go." + t.name }

func (t *T) connectionString(key string) string {
	return t.plainConnectionString(key) + "UseDevelopmentEmulator=true;"
}

func (t *T) plainConnectionString(key string) string {
	return fmt.Sprintf("Endpoint=sb://%s:%d;SharedAccessKeyName=%s;SharedAccessKey=%s;", t.host, t.port, rule, key)
}

// A failure ends a scenario from wherever it is.
type failure string

func fail(format string, arguments ...any) {
	panic(failure(fmt.Sprintf(format, arguments...)))
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func must[V any](value V, err error) V {
	check(err)
	return value
}

func expect[V any](actual, wanted V, what string) {
	if !reflect.DeepEqual(actual, wanted) {
		fail("%s: %s instead of %s", what, shorten(actual), shorten(wanted))
	}
}

func shorten(value any) string {
	value = followed(value)
	text := fmt.Sprintf("%#v", value)
	if len(text) > 200 {
		return fmt.Sprintf("%s… (%d characters)", text[:200], len(text))
	}
	return text
}

// followed shows what a pointer leads to.
func followed(value any) any {
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && !v.IsNil() {
		return v.Elem().Interface()
	}
	return value
}

// waitForRestart says that the broker may be restarted now, and waits until somebody says that it was.
func waitForRestart() {
	fmt.Println("READY: restart the broker, then press Enter")
	if !bufio.NewScanner(os.Stdin).Scan() {
		fail("nobody restarted the broker")
	}
}

func run(s scenario, host string, port int) (failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	defer func() {
		if reason := recover(); reason != nil {
			os.Stderr.Write(debug.Stack())
			failed = fmt.Errorf("%v", reason)
		}
	}()
	s.run(&T{ctx: ctx, name: s.name, host: host, port: port})
	return nil
}

func scenarios() []scenario {
	all := slices.Concat(queues, features, sessions, topics)
	// What needs https, and so the certificate of a broker that the matrix has started.
	if certificates := os.Getenv("INTEROP_CERTIFICATES"); certificates != "" {
		// Go reads this when it needs an authority for the first time.
		os.Setenv("SSL_CERT_FILE", filepath.Join(certificates, "ca.pem"))
		all = slices.Concat(all, management, doors, identities, programs, faults)
	}
	return all
}

func main() {
	host := flag.String("host", "localhost", "where the broker is")
	port := flag.Int("port", 5672, "where it listens")
	only := flag.String("only", "", "scenarios, separated by commas")
	list := flag.Bool("list", false, "print the names of the scenarios")
	flag.Parse()
	all := scenarios()
	if *list {
		for _, s := range all {
			fmt.Println(s.name)
		}
		return
	}
	wanted := func(s scenario) bool {
		// The one takes 70 seconds, the other needs somebody who restarts the broker.
		return *only == "" && s.name != "idle" && s.name != "reconnect"
	}
	if *only != "" {
		names := strings.Split(*only, ",")
		wanted = func(s scenario) bool { return slices.Contains(names, s.name) }
	}
	status := 0
	for _, s := range all {
		if !wanted(s) {
			continue
		}
		started := time.Now()
		if err := run(s, *host, *port); err != nil {
			status = 1
			fmt.Printf("FAIL %s %s\n", s.name, strings.Join(strings.Fields(err.Error()), " "))
			continue
		}
		fmt.Printf("PASS %s %.1fs\n", s.name, time.Since(started).Seconds())
	}
	os.Exit(status)
}
