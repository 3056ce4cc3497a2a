# Needs Go. race needs a C compiler too, e2e what packaging/e2e lists; both say so.
VERSION  ?= 0.1.0
FUZZTIME ?= 30s
SOAK     ?= 30m
DIST     ?= dist
ARCHES   ?= amd64 arm64

GOLANGCI := bin/tools/golangci-lint-v2.15.0
NFPM     := bin/tools/nfpm-v2.45.2
GOARCH   := $(shell go env GOARCH)
LDFLAGS  := -s -w -buildid= -X main.version=$(VERSION)

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
export CGO_ENABLED := 0
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600)

.DEFAULT_GOAL := build
.PHONY: build run test race e2e soak fuzz bench lint generate package clean

build:    ## bin/tcpmemd, bin/tcpmemctl and the actions that tcpmemd starts
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/tcpmemd ./cmd/tcpmemctl ./cmd/tcpmemd-action

run: build    ## the daemon in the foreground on this host, observing; Ctrl-C ends it
	@exec ./bin/tcpmemd

test:     ## every test, one package at a time (they share the kernel's counters); as root also those on the real kernel
	go test -p 1 ./...

# Whole daemons, terminals and browsers run programs that are built without the
# race detector; the last ones compute much, in one goroutine.
RACE_SKIP := Story|Container|Kill|Top[A-Z].*|Browser|Screenshots|Probe|HollowDocuments|LeftOut|HostileFiles

race:     ## every test under the race detector, but those that it cannot see into
	@command -v $$(go env CC) >/dev/null || { echo 'race: needs cgo and a C compiler; install gcc'; exit 1; }
	CGO_ENABLED=1 go test -p 1 -race -skip '^Test($(RACE_SKIP))$$' ./...

e2e: ARCHES := $(GOARCH)
e2e: package    ## install the package on a booted Debian and use it (root)
	TCPMEMD_E2E_DEB=$(abspath $(DIST)/tcpmemd_$(VERSION)_$(GOARCH).deb) go test -tags e2e -count=1 -v -timeout 30m ./packaging/e2e

soak: ARCHES := $(GOARCH)
soak: package    ## the same daemon for longer: 5 minutes at rest, then leaks, restarts and reloads for SOAK (root)
	TCPMEMD_E2E_DEB=$(abspath $(DIST)/tcpmemd_$(VERSION)_$(GOARCH).deb) TCPMEMD_E2E_SOAK=$(SOAK) go test -tags e2e -count=1 -v -timeout 12h -run '^TestAtRest$$' ./packaging/e2e

fuzz:     ## every fuzz target for FUZZTIME
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ { t[++n] = $$1 } /^(ok|\?)/ { for (i = 1; i <= n; i++) print $$2, t[i]; n = 0 }' | \
	while read -r pkg target; do go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x "$$pkg" </dev/null || exit 1; done

bench: build    ## the numbers that the documentation states, beside ss (root)
	go run ./cmd/internal/tcpmembench $(BENCHFLAGS)

lint: $(GOLANGCI)    ## formatting, vet, import directions
	$(GOLANGCI) run

generate: ## what is committed but made by a program
	go generate ./...
	cd remediate/examples/go && go mod tidy

package: $(NFPM)    ## dist: deb, rpm and bill of materials for each of ARCHES, checksums; the same bytes from the same commit
	VERSION='$(VERSION)' LDFLAGS='$(LDFLAGS)' packaging/build $(NFPM) $(DIST) $(ARCHES)

clean:
	rm -rf bin dist

# Tools are kept by version, so that a new version is a new file.
$(GOLANGCI): ; $(call install,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$@)
$(NFPM):     ; $(call install,github.com/goreleaser/nfpm/v2/cmd/nfpm,$@)
install = d=$$(mktemp -d) && GOBIN=$$d go install $(1)@$(lastword $(subst -v, v,$(2))) && mkdir -p $(@D) && mv $$d/* $(2) && rmdir $$d
