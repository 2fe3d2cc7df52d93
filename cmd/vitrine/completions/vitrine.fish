# fish completion for vitrine, as "vitrine completion fish" prints it. Put it into ~/.config/fish/completions, as vitrine.fish.

# __vitrine_takes COMMAND-AND-FLAG: does the flag take a value?
function __vitrine_takes
    contains -- $argv[1] 'vitrine demo --chain' 'vitrine origin --listen' 'vitrine origin --cert' 'vitrine origin --key' 'vitrine origin --root' 'vitrine origin --upstream' 'vitrine proxy --listen' 'vitrine proxy --cert' 'vitrine proxy --key' 'vitrine proxy --roots' 'vitrine proxy --client-roots' 'vitrine proxy --upstream' 'vitrine proxy --upstream-roots' 'vitrine proxy --config' 'vitrine proxy --modes' 'vitrine proxy --connect-to' 'vitrine proxy --drain' 'vitrine proxy --keylog' 'vitrine proxy --hostile' 'vitrine fetch --proxy' 'vitrine fetch --proxy-roots' 'vitrine fetch --roots' 'vitrine fetch --consent' 'vitrine fetch --store' 'vitrine fetch --level' 'vitrine fetch --client-cert' 'vitrine fetch --client-key' 'vitrine fetch --connect-to' 'vitrine fetch --keylog' 'vitrine fetch --report' 'vitrine fetch --evidence' 'vitrine fetch --request' 'vitrine fetch -X' 'vitrine fetch --header' 'vitrine fetch -H' 'vitrine fetch --data' 'vitrine fetch -d' 'vitrine fetch --output' 'vitrine fetch -o' 'vitrine fetch --max-time' 'vitrine gateway --proxy' 'vitrine gateway --proxy-roots' 'vitrine gateway --roots' 'vitrine gateway --consent' 'vitrine gateway --store' 'vitrine gateway --level' 'vitrine gateway --client-cert' 'vitrine gateway --client-key' 'vitrine gateway --connect-to' 'vitrine gateway --keylog' 'vitrine gateway --listen' 'vitrine gateway --host' 'vitrine gateway --map' 'vitrine consent list --store' 'vitrine consent grant --store' 'vitrine consent grant --proxy' 'vitrine consent grant --proxy-roots' 'vitrine consent grant --root' 'vitrine consent grant --scope' 'vitrine consent grant --for' 'vitrine consent grant --until' 'vitrine consent grant --level' 'vitrine consent revoke --store' 'vitrine consent forget --store' 'vitrine evidence show --roots' 'vitrine evidence show --nonce' 'vitrine evidence show --proxy' 'vitrine evidence show --report' 'vitrine inner client --connect' 'vitrine inner client --server-name' 'vitrine inner client --roots' 'vitrine inner client --cert' 'vitrine inner client --key' 'vitrine inner client --session-in' 'vitrine inner client --session-out' 'vitrine inner client --suite' 'vitrine inner client --groups' 'vitrine inner client --alpn' 'vitrine inner client --export' 'vitrine inner client --keylog' 'vitrine inner server --listen' 'vitrine inner server --cert' 'vitrine inner server --key' 'vitrine inner server --client-roots' 'vitrine inner server --root' 'vitrine inner server --suite' 'vitrine inner server --groups' 'vitrine inner server --alpn' 'vitrine inner server --export' 'vitrine inner server --keylog'
end

# __vitrine_at COMMAND [PLACE]: does the line name this command, with the cursor at this argument, or (2+) at one from there on?
function __vitrine_at --argument-names command place
    set -l words (commandline -opc)
    set -e words[1]
    set -l path vitrine
    while set -q words[1]; and contains -- "$path $words[1]" 'vitrine demo' 'vitrine pki' 'vitrine pki init' 'vitrine pki origin' 'vitrine pki proxy' 'vitrine origin' 'vitrine proxy' 'vitrine policy' 'vitrine policy check' 'vitrine fetch' 'vitrine gateway' 'vitrine consent' 'vitrine consent list' 'vitrine consent grant' 'vitrine consent revoke' 'vitrine consent forget' 'vitrine evidence' 'vitrine evidence show' 'vitrine inner' 'vitrine inner client' 'vitrine inner server' 'vitrine completion' 'vitrine version'
        set path "$path $words[1]"
        set -e words[1]
    end
    test "$path" = "$command"; or return 1
    test -n "$place"; or return 0
    set -l at 1
    set -l flag
    set -l only
    for word in $words
        if set -q flag[1]
            set -e flag[1]
        else if set -q only[1]
            set at (math $at + 1)
        else
            switch $word
                case --
                    set only yes
                case '--*=*'
                case '--*'
                    __vitrine_takes "$path $word"; and set flag $word
                case '-?*'
                    set -l letters (string split '' -- (string sub -s 2 -- $word))
                    while set -q letters[1]
                        if __vitrine_takes "$path -$letters[1]"
                            set -q letters[2]; or set flag $word
                            break
                        end
                        set -e letters[1]
                    end
                case '*'
                    set at (math $at + 1)
            end
        end
    end
    if string match -q '*+' -- $place
        test $at -ge (string trim -c + -- $place)
    else
        test $at -eq $place
    end
end

complete -c vitrine -f
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a demo -d 'run client, proxy and origin on loopback, and check what each one saw'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a pki -d 'make a test PKI: two roots, origin certificates, proxy certificates'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a origin -d 'serve a directory, or another server, over HTTPS with inspected TLS enabled'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a proxy -d 'run the proxy'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a policy -d 'check the file that says what a proxy lets in'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a fetch -d 'fetch a URL through the proxy, and say who could read and change it'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a gateway -d 'fetch for programs that know nothing of this, as their proxy on loopback'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a consent -d 'say which proxy may read what, and take it back'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a evidence -d 'explain saved evidence, and verify it again'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a inner -d 'speak the inner TLS by itself, on bare TCP, to try it against other stacks'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a completion -d 'print a script that completes commands, flags and their values'
complete -c vitrine -n '__vitrine_at "vitrine" 1' -a version -d 'print the version, and the commit where the build recorded it'
complete -c vitrine -n '__vitrine_at "vitrine"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine demo"' -l chain -r -f -a '2 3 4 5' -d 'show a chain of N proxies, 2 to 5'
complete -c vitrine -n '__vitrine_at "vitrine demo"' -l json -d 'print one JSON object for each step'
complete -c vitrine -n '__vitrine_at "vitrine demo"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine pki" 1' -a init -d 'create DIR with an origin root and a proxy root'
complete -c vitrine -n '__vitrine_at "vitrine pki" 1' -a origin -d 'issue a certificate for an origin'
complete -c vitrine -n '__vitrine_at "vitrine pki" 1' -a proxy -d 'issue a certificate with proxyAuthentication, valid for 30 days'
complete -c vitrine -n '__vitrine_at "vitrine pki"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine pki init"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine pki init" 1' -f -a '(__fish_complete_directories)'
complete -c vitrine -n '__vitrine_at "vitrine pki origin"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine pki origin" 1' -f -a '(__fish_complete_directories)'
complete -c vitrine -n '__vitrine_at "vitrine pki proxy"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine pki proxy" 1' -f -a '(__fish_complete_directories)'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l listen -r -f -d 'ADDR to listen on, e.g. 127.0.0.1:8443; port 0 picks one'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l cert -r -F -d 'certificate chain, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l key -r -F -d 'private key, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l root -r -f -a '(__fish_complete_directories)' -d 'serve the files in DIR'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l upstream -r -f -d 'pass requests on to URL (http or https)'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l sign -d 'sign responses, for clients at the level signed'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l no-token -d 'leave itls-h2/1 out, as a server that knows nothing of it'
complete -c vitrine -n '__vitrine_at "vitrine origin"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l listen -r -f -d 'ADDR to listen on, e.g. 127.0.0.1:8444; port 0 picks one'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l cert -r -F -d 'certificate chain with proxyAuthentication, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l key -r -F -d 'private key, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l roots -r -F -d 'verify origins by the roots in PEM FILE (default: the system\'s)'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l client-roots -r -F -d 'clients show a certificate that the roots in PEM FILE verify (default: none is asked)'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l upstream -r -f -d 'go through the proxy at URL, https://name[:port], which reads too; clients are told of it'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l upstream-roots -r -F -d 'verify that proxy by the roots in PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l config -r -F -d 'policy FILE: which hosts get what, what may be dialled, and what is killed'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l modes -r -f -a '(__fish_complete_list , "string split , intact,split,blind")' -d 'without --config: what this proxy allows, a list M[,M...] of intact, split and blind'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l connect-to -r -f -d 'dial ADDR:PORT for HOST:PORT, given as HOST:PORT:ADDR:PORT (repeatable; an empty HOST or PORT matches any)'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l drain -r -f -d 'after SIGTERM, wait this DURATION for open tunnels'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l keylog -r -F -d 'append the hops\' TLS secrets to FILE (NSS format): whoever has it reads them'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l hostile -r -f -a 'flip drop insert reorder replay truncate splice swap-cert fake-evidence stale-evidence strip-token other-proxy other-hop no-answer false-verdict split-alter split-replay split-other-connection' -d 'lie in the way that MODE names; on loopback only'
complete -c vitrine -n '__vitrine_at "vitrine proxy"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine policy" 1' -a check -d 'read a policy file as the proxy would'
complete -c vitrine -n '__vitrine_at "vitrine policy"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine policy check"' -l json -d 'print one JSON object'
complete -c vitrine -n '__vitrine_at "vitrine policy check"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine policy check" 1' -F
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l proxy -r -f -d 'the proxy, as https://HOST:PORT (a URL)'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l proxy-roots -r -F -d 'verify the proxy by the roots in PEM FILE; these never verify an origin'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l roots -r -F -d 'verify origins by the roots in PEM FILE (default: the system\'s)'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l consent -r -f -a 'stored ask once' -d 'HOW you agree that the proxy reads this fetch, redirects included: stored, ask or once'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l store -r -F -d 'the grants are in FILE (default: $XDG_STATE_HOME/vitrine/consent.json, else ~/.local/state/vitrine/consent.json)'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l level -r -f -a '(__fish_complete_list , "string split , intact,signed,attested,claimed,blind,direct,ask")' -d 'the levels that you accept, a list L[,L...] of intact, signed, attested, claimed, blind, direct; ask in it has you asked where none of them can be had'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l client-cert -r -F -d 'show the proxy, when it asks, the certificate in PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l client-key -r -F -d 'its private key, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l allow-credentials -d 'with --consent once: let Authorization, Cookie and the like leave where the proxy reads them'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l connect-to -r -f -d 'dial ADDR:PORT for HOST:PORT, given as HOST:PORT:ADDR:PORT (repeatable): the proxy\'s address, or the origin\'s where you go direct'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l keylog -r -F -d 'append the TLS secrets of hop 1 and the inner session to FILE (NSS format): whoever has it can read the one and forge the other'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l report -r -F -d 'write a JSON report to FILE, on every exit'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l evidence -r -F -d 'write the evidence, as it came over the wire, to FILE'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l request -s X -r -f -d 'the request METHOD'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l header -s H -r -f -d 'add the field \'K: V\'; \'K:\' removes one, \'K;\' sends it empty (repeatable)'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l data -s d -r -f -d 'send DATA, or the contents of @FILE without line ends, @- for standard input (repeatable; joined by &)'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l output -s o -r -F -d 'write to FILE; what arrived before a failure stays in it'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l include -s i -d 'print the response head too'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l head -s I -d 'send HEAD and print the response head'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l location -s L -d 'follow redirects, at most 50'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l fail -s f -d 'exit with 1 and no body when the status is 400 or above'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l verbose -s v -d 'say on standard error what happens and who could read it'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l max-time -r -f -d 'give up after this many SECONDS'
complete -c vitrine -n '__vitrine_at "vitrine fetch"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l proxy -r -f -d 'the proxy, as https://HOST:PORT (a URL)'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l proxy-roots -r -F -d 'verify the proxy by the roots in PEM FILE; these never verify an origin'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l roots -r -F -d 'verify origins by the roots in PEM FILE (default: the system\'s)'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l consent -r -f -a 'stored ask once' -d 'HOW you agree that the proxy reads what is fetched here, whatever the host: stored, ask or once'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l store -r -F -d 'the grants are in FILE (default: $XDG_STATE_HOME/vitrine/consent.json, else ~/.local/state/vitrine/consent.json)'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l level -r -f -a '(__fish_complete_list , "string split , intact,signed,attested,claimed,blind,direct,ask")' -d 'the levels that you accept, a list L[,L...] of intact, signed, attested, claimed, blind, direct; ask in it has you asked where none of them can be had'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l client-cert -r -F -d 'show the proxy, when it asks, the certificate in PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l client-key -r -F -d 'its private key, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l allow-credentials -d 'with --consent once: let Authorization, Cookie and the like leave where the proxy reads them'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l connect-to -r -f -d 'dial ADDR:PORT for HOST:PORT, given as HOST:PORT:ADDR:PORT (repeatable): the proxy\'s address, or the origin\'s where you go direct'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l keylog -r -F -d 'append the TLS secrets of hop 1 and the inner session to FILE (NSS format): whoever has it can read the one and forge the other'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l listen -r -f -d 'ADDR to be a proxy at, e.g. 127.0.0.1:8080; port 0 picks one'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l host -r -f -d 'fetch from hosts of this PATTERN: shop.example, *.example, * or either with :PORT, that of https (repeatable)'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l map -r -f -d 'give an origin an address of its own, given as ADDR=URL, e.g. 127.0.0.1:8081=https://git.example (repeatable)'
complete -c vitrine -n '__vitrine_at "vitrine gateway"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine consent" 1' -a list -d 'print what is granted, and what hosts were reached at'
complete -c vitrine -n '__vitrine_at "vitrine consent" 1' -a grant -d 'let a proxy read what you say to some hosts, until a time'
complete -c vitrine -n '__vitrine_at "vitrine consent" 1' -a revoke -d 'take grants back: none of them lets a byte through from now on'
complete -c vitrine -n '__vitrine_at "vitrine consent" 1' -a forget -d 'forget what hosts were reached at: less than that is then no loss'
complete -c vitrine -n '__vitrine_at "vitrine consent"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine consent list"' -l store -r -F -d 'the grants are in FILE (default: $XDG_STATE_HOME/vitrine/consent.json, else ~/.local/state/vitrine/consent.json)'
complete -c vitrine -n '__vitrine_at "vitrine consent list"' -l json -d 'print one JSON object'
complete -c vitrine -n '__vitrine_at "vitrine consent list"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l store -r -F -d 'the grants are in FILE (default: $XDG_STATE_HOME/vitrine/consent.json, else ~/.local/state/vitrine/consent.json)'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l proxy -r -f -d 'the proxy, by its NAME or as https://NAME:PORT'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l proxy-roots -r -F -d 'the root that vouches for the proxy, in PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l root -r -f -d 'where FILE holds several roots, the one whose key has this SHA-256, in HEX'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l scope -r -f -d 'the hosts that it is for, a PATTERN (repeatable)'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l for -r -f -d 'how long it lasts, a DURATION such as 30d, 12h or 45m, at most 366d (default: 30d)'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l until -r -f -d 'when it ends: a DATE, as 2027-01-31 for the moment that this day begins here, or as 2027-01-31T18:00:00Z'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l level -r -f -a '(__fish_complete_list , "string split , intact,signed,attested,claimed,blind")' -d 'the levels that the hosts may be reached at through the proxy, a list L[,L...] of intact, signed, attested, claimed, blind'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l credentials -d 'let the proxy read passwords, cookies and tokens too, which a reader can use elsewhere'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l json -d 'print one JSON object'
complete -c vitrine -n '__vitrine_at "vitrine consent grant"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine consent revoke"' -l store -r -F -d 'the grants are in FILE (default: $XDG_STATE_HOME/vitrine/consent.json, else ~/.local/state/vitrine/consent.json)'
complete -c vitrine -n '__vitrine_at "vitrine consent revoke"' -l all -d 'revoke every grant'
complete -c vitrine -n '__vitrine_at "vitrine consent revoke"' -l json -d 'print one JSON object'
complete -c vitrine -n '__vitrine_at "vitrine consent revoke"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine consent forget"' -l store -r -F -d 'the grants are in FILE (default: $XDG_STATE_HOME/vitrine/consent.json, else ~/.local/state/vitrine/consent.json)'
complete -c vitrine -n '__vitrine_at "vitrine consent forget"' -l all -d 'forget every host'
complete -c vitrine -n '__vitrine_at "vitrine consent forget"' -l json -d 'print one JSON object'
complete -c vitrine -n '__vitrine_at "vitrine consent forget"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine evidence" 1' -a show -d 'say what evidence that "vitrine fetch --evidence" saved proves, and what it does not'
complete -c vitrine -n '__vitrine_at "vitrine evidence"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine evidence show"' -l json -d 'print one JSON object'
complete -c vitrine -n '__vitrine_at "vitrine evidence show"' -l roots -r -F -d 'verify the origin by the roots in PEM FILE (default: the system\'s)'
complete -c vitrine -n '__vitrine_at "vitrine evidence show"' -l nonce -r -f -d 'the nonce of the CONNECT, 64 HEX digits; needs --proxy'
complete -c vitrine -n '__vitrine_at "vitrine evidence show"' -l proxy -r -F -d 'the proxy\'s certificate: a PEM FILE, or its SHA-256 in hex; needs --nonce'
complete -c vitrine -n '__vitrine_at "vitrine evidence show"' -l report -r -F -d 'take nonce and proxy from the report of that fetch, a JSON FILE'
complete -c vitrine -n '__vitrine_at "vitrine evidence show"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine evidence show" 1' -F
complete -c vitrine -n '__vitrine_at "vitrine inner" 1' -a client -d 'send standard input to a server, and write what it sends to standard output'
complete -c vitrine -n '__vitrine_at "vitrine inner" 1' -a server -d 'take one client behind the other: send it standard input, and write what it sends to standard output'
complete -c vitrine -n '__vitrine_at "vitrine inner"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l connect -r -f -d 'the server\'s ADDR, HOST:PORT'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l server-name -r -f -d 'the NAME that its certificate has to have (default: the host of --connect)'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l roots -r -F -d 'verify the server by the roots in PEM FILE (default: the system\'s)'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l cert -r -F -d 'show the server, when it asks, the certificate in PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l key -r -F -d 'its private key, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l session-in -r -F -d 'resume the session in FILE, if it is for the same name, certificate and protocols'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l session-out -r -F -d 'keep a session that can be resumed in FILE, readable by its owner alone: whoever has it can forge it'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l key-update -d 'behind the handshake, change the keys of both directions; OpenSSL\'s cannot'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l suite -r -f -a '(__fish_complete_list , "string split , TLS_SHA256_SHA256,TLS_SHA384_SHA384")' -d 'the cipher suites, best first, a list S[,S...] of TLS_SHA256_SHA256, TLS_SHA384_SHA384 (default: both)'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l groups -r -f -a '(__fish_complete_list , "string split , X25519,P-256,P-384,X25519MLKEM768")' -d 'the key exchange groups, best first, a list G[,G...] of X25519, P-256, P-384, X25519MLKEM768 (default: all but the last)'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l alpn -r -f -d 'the application protocols, best first, a list P[,P...] (default: none)'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l export -r -f -d 'say what the exporter gives for a label without a context, as LABEL:LEN, LEN in bytes'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l keylog -r -F -d 'append the secrets to FILE (NSS format): whoever has it can forge the session'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l json -d 'say on standard error, in one line of JSON, what each session was, at its end'
complete -c vitrine -n '__vitrine_at "vitrine inner client"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l listen -r -f -d 'ADDR to listen on, e.g. 127.0.0.1:8449; port 0 picks one'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l cert -r -F -d 'certificate chain, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l key -r -F -d 'private key, PEM FILE'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l client-roots -r -F -d 'let in only clients whose certificates the roots in PEM FILE vouch for'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l root -r -f -a '(__fish_complete_directories)' -d 'serve the files in DIR over HTTP/1.1'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l suite -r -f -a '(__fish_complete_list , "string split , TLS_SHA256_SHA256,TLS_SHA384_SHA384")' -d 'the cipher suites, best first, a list S[,S...] of TLS_SHA256_SHA256, TLS_SHA384_SHA384 (default: both)'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l groups -r -f -a '(__fish_complete_list , "string split , X25519,P-256,P-384,X25519MLKEM768")' -d 'the key exchange groups, best first, a list G[,G...] of X25519, P-256, P-384, X25519MLKEM768 (default: all but the last)'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l alpn -r -f -d 'the application protocols, best first, a list P[,P...] (default: none)'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l export -r -f -d 'say what the exporter gives for a label without a context, as LABEL:LEN, LEN in bytes'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l keylog -r -F -d 'append the secrets to FILE (NSS format): whoever has it can forge the session'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l json -d 'say on standard error, in one line of JSON, what each session was, at its end'
complete -c vitrine -n '__vitrine_at "vitrine inner server"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine completion"' -l help -s h -d 'show help'
complete -c vitrine -n '__vitrine_at "vitrine completion" 1' -f -a 'bash zsh fish'
complete -c vitrine -n '__vitrine_at "vitrine version"' -l json -d 'print one JSON object'
complete -c vitrine -n '__vitrine_at "vitrine version"' -l help -s h -d 'show help'
