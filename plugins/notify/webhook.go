package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

const (
	maxAnswer  = 200     // bytes of an answer that a message repeats
	maxHeaders = 8 << 10 // bytes of an answer's header
)

// target is the URL of a webhook. Its user, path and query are secrets: they
// are sent, and never told.
type target struct{ url *url.URL }

func newTarget(text string) (*target, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // it repeats the text
		return nil, errors.New("not a URL, e.g. https://alerts.example/tcpmemd")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("want a URL that begins with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("the URL names no host")
	}
	return &target{u}, nil
}

// name is as much of the URL as may be told.
func (t *target) name() string { return t.url.Scheme + "://" + printable(t.url.Host, maxAnswer) }

// post sends the event, once. Any answer of 2xx counts as told; its body is not
// read. A redirect is not followed: it could lead to another host, or from
// https to http, and most turn the POST into a GET without the event.
func (t *target) post(ctx context.Context, version string, event []byte) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url.String(), bytes.NewReader(event))
	if err != nil {
		return errors.New("not a URL that can be posted to")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tcpmemd/"+version)
	client := http.Client{
		// One connection for one try, and no proxy: the environment is nobody's.
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{}).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaders,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return told(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("answered %d, a redirect to %s, which is not followed", resp.StatusCode, place(resp.Header.Get("Location")))
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // as much as comes
	return fmt.Errorf("answered %d: %q", resp.StatusCode, body)
}

// told is an error of the client without the URL in it.
func told(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return errors.New(printable(err.Error(), 2*maxAnswer))
}

// place is as much of a redirect's address as may be told.
func place(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "a path of its own"
	}
	return printable(u.Scheme+"://"+u.Host, maxAnswer)
}

// printable escapes what a server or a URL chose, and cuts what is long.
func printable(s string, most int) string {
	if s = prose.Escape(s); len(s) > most {
		s = strings.ToValidUTF8(s[:most-3], "") + "..."
	}
	return s
}
