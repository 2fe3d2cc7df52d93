# Every target wraps a command that works without make; see README.md.
TOOL = go tool -modfile=internal/tools/go.mod

.PHONY: all demo build test race lint fmt fuzz bench bench-inner bench-all spec-coverage vectors words h2spec bogo interop interop-openssl interop-haproxy browser ci

all: lint test

demo:
	go run ./cmd/vitrine demo
	go run ./cmd/vitrine demo --chain 2

build:
	go build -trimpath -o vitrine ./cmd/vitrine

test:
	go test ./...

race:
	go test -race -shuffle=on ./...

lint:
	@out=$$(git ls-files '*.go' | xargs $(TOOL) gofumpt -l); [ -z "$$out" ] || { echo "not formatted:"; echo "$$out"; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	go mod tidy -diff

fmt:
	git ls-files '*.go' | xargs $(TOOL) gofumpt -w

# Runs every fuzzer for FUZZTIME each.
FUZZTIME ?= 20s
fuzz:
	@set -e; for pkg in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

# The main job beside direct HTTPS and a relay that terminates TLS; bench-all adds every package's own.
bench:
	go test -run '^$$' -bench 'Bulk|Exchange|Fresh' -benchmem -count 3 ./internal/bench
	go test -run '^$$' -bench Tunnel -benchtime 200x -benchmem -count 3 ./internal/bench

# The inner session beside crypto/tls and HMAC alone: ratios of one run. It fails where they are out of bounds.
bench-inner:
	go test -run '^$$' -bench 'Inner(Handshake|Resumption)' -benchtime 61x ./internal/bench
	go test -run '^$$' -bench 'Inner(Write|Read)' -benchtime 25x ./internal/bench
	go test -run '^$$' -bench 'Seal|Open' ./internal/itls

bench-all:
	go test -run '^$$' -bench . -benchmem ./...

# Fails when a MUST of the specification has no test, or a test names a rule that is not there.
spec-coverage:
	go test -count=1 ./spec

# The HTTP/2 carrier against h2spec, over TLS on loopback.
h2spec: .bin/h2spec
	H2SPEC=$(CURDIR)/.bin/h2spec go test -count=1 -v -run TestH2Spec ./internal/hop/h2

.bin/h2spec: internal/tools/go.mod
	go build -modfile=internal/tools/go.mod -o $@ github.com/summerwind/h2spec/cmd/h2spec

# BoringSSL's runner against the inner TLS; BOGO_RUNNER is ssl/test/runner of a checkout of BoringSSL. See
# internal/itls/bogo.
bogo:
	@[ -n "$(BOGO_RUNNER)" ] || { echo "make bogo BOGO_RUNNER=DIR: DIR is ssl/test/runner of a checkout of BoringSSL"; exit 2; }
	BOGO_RUNNER=$(abspath $(BOGO_RUNNER)) go test -count=1 -v -timeout 20m -run 'TestBoGo|TestBogo' ./internal/itls

# The inner session against other stacks, with a matrix of what works. OPENSSL, HAPROXY, WOLFSSL_CLIENT and
# WOLFSSL_SERVER name programs; the first two default to what interop-openssl and interop-haproxy have unpacked.
interop: OPENSSL ?= $(wildcard $(CURDIR)/.bin/openssl/openssl)
interop: HAPROXY ?= $(wildcard $(CURDIR)/.bin/haproxy/haproxy)
interop:
	OPENSSL=$(OPENSSL) HAPROXY=$(HAPROXY) go test -count=1 -v -run TestInterop ./internal/interop

# Programs of Debian 13, from the mirror that this machine's apt uses, beside their own C library. Nothing is installed.
interop-openssl:
	bash internal/interop/debian.sh openssl .bin/openssl

interop-haproxy:
	bash internal/interop/debian.sh haproxy .bin/haproxy

# The gateway with a real browser. Without Chromium it is installed with apt-get, which takes root.
browser:
	CHROMIUM=$$(bash internal/interop/chromium.sh) && export CHROMIUM && go test -count=1 -timeout 10m -v -run TestInteropChromium ./internal/interop

vectors:
	go generate ./spec/vectors

# The man page and the completion scripts, made anew from the commands.
words:
	go test ./cmd/vitrine -run 'TestTheManPage|TestTheCompletionScripts' -update

ci:
	bash .ci/run
