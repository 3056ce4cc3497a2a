package serve

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// users has one, "prom" with the password "secret".
const users = "basic_auth_users:\n  prom: $2a$05$4hpocOAL9.VwLSl8G7uIquEhKDk10g2WafEyMHg7YEnNu1ZW/nz4C\n"

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// certified makes a certificate and gives a web configuration with it.
func certified(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("tls_server_config:\n  cert_file: %s\n  key_file: %s\n",
		file(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		file(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}))))
}

func TestUsersAndTLS(t *testing.T) {
	web := file(t, "web.yml", users+certified(t))
	one, two := loopback(t), loopback(t)
	e, _ := start(t, Config{Handed: []net.Listener{one, two}, WebConfig: web})
	untroubled(t, e)
	// The certificate is the test's own: it is not what is looked at.
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	for _, l := range []net.Listener{one, two} {
		url := l.Addr().String() + "/metrics"
		if got := get(t, c, "GET", "https://"+url, nil); got.code != 401 {
			t.Errorf("without a user: %d", got.code)
		}
		if got := get(t, c, "GET", "https://prom:wrong@"+url, http.Header{}); got.code != 401 {
			t.Errorf("with a wrong password: %d", got.code)
		}
		if got := get(t, c, "GET", "https://prom:secret@"+url, http.Header{}); got.code != 200 || got.body != oneText {
			t.Errorf("with the right one: %d, %s", got.code, got.body)
		}
		if got := get(t, c, "GET", "http://prom:secret@"+url, http.Header{}); got.code != 400 {
			t.Errorf("without TLS: %d", got.code)
		}
	}
}

// TestBrokenWebConfig: the service manager's listener is kept, and served once
// the file is right.
func TestBrokenWebConfig(t *testing.T) {
	web := filepath.Join(t.TempDir(), "web.yml")
	put := func(text string) { // at once: an empty file would be right
		if err := os.Rename(file(t, "web.yml", text), web); err != nil {
			t.Fatal(err)
		}
	}
	l := loopback(t)
	e, _ := start(t, Config{Handed: []net.Listener{l}, WebConfig: web})
	troubleWith(t, e, "(the service manager's socket): web configuration "+web+": open: no such file")
	for _, tt := range []struct{ text, want string }{
		{"tls_config: {}\n", "field tls_config not found"},
		{"basic_auth_users: {prom: secret}\n", "hashedSecret too short"},
		{"tls_server_config: {cert_file: x}\n", "missing one of key or key_file"},
	} {
		put(tt.text)
		troubleWith(t, e, "web configuration "+web+": ", tt.want)
	}
	put(users)
	untroubled(t, e)
	if got := get(t, client(t), "GET", "http://prom:secret@"+l.Addr().String()+"/metrics", http.Header{}); got.body != oneText {
		t.Errorf("got %s", got.body)
	}
}

// TestOpenToOthers: also a socket that was handed over, and a file that says
// nothing.
func TestOpenToOthers(t *testing.T) {
	empty := file(t, "empty.yml", "")
	for _, tt := range []struct{ web, want string }{
		{"", "other hosts reach it: set metrics.web_config to a file with TLS or users"},
		{empty, "it has neither tls_server_config nor basic_auth_users"},
		{file(t, "web.yml", users), ""},
	} {
		l, err := net.Listen("tcp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		e, stop := start(t, Config{Handed: []net.Listener{l}, WebConfig: tt.web})
		if tt.want == "" {
			untroubled(t, e)
		} else {
			troubleWith(t, e, tt.want)
		}
		stop()
	}
	l := loopback(t)
	e, _ := start(t, Config{Handed: []net.Listener{l}, WebConfig: empty})
	untroubled(t, e)
}

// handedMain is a service: it takes what was handed over, and says what of it
// a child has.
func handedMain() int {
	list, err := Handed()
	fmt.Println("error", err)
	for _, l := range list {
		fmt.Println(handedName(l))
	}
	out, err := exec.Command("/bin/sh", "-c", "env | grep ^LISTEN_; ls -l /proc/self/fd | grep socket: ; true").CombinedOutput()
	fmt.Printf("child %q %v\n", out, err)
	return 0
}

func TestHanded(t *testing.T) {
	tcp, other := loopback(t), loopback(t)
	local, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for _, l := range []net.Listener{tcp, other, local} {
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		defer f.Close()
		files = append(files, f)
	}
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=metrics:other:metrics exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), "TCPMEMD_TEST_HANDED=1")
	cmd.ExtraFiles = files
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	want := []string{
		"error <nil>", tcp.Addr().String() + " (the service manager's socket)",
		"unix:" + local.Addr().String() + " (the service manager's socket)", `child "" <nil>`,
	}
	if got := strings.Split(strings.TrimSpace(out.String()), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if list, err := Handed(); list != nil || err != nil {
		t.Errorf("nothing was handed over: %v, %v", list, err)
	}
}
