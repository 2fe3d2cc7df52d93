package itls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"vitrine/internal/tlsmsg"
)

const (
	// ticketMagic begins what is sealed in a ticket, and goes into the seal: no other ticket opens here,
	// and ours opens nowhere else.
	ticketMagic = "vitrine itls ticket v1"

	// maxTicketKeys bounds the keys that are kept, by bounding how fast they may rotate.
	maxTicketKeys = 64

	// maxSealed is how many tickets one key seals: their nonces are random, and this many keep the
	// chance that two are alike below 2⁻³² (NIST SP 800-38D, section 8.3).
	maxSealed = 1 << 32

	keyNameLen = 16
)

// TicketKeys seal the tickets of a server, which keeps nothing else about its sessions. The zero value is
// ready; the keys are random, live in memory alone, and rotate. It is safe for concurrent use and must
// not be copied.
type TicketKeys struct {
	// Lifetime is how long after a full handshake its session may be resumed; a resumed session's
	// tickets prolong nothing. Default: 12 hours; at most 7 days (RFC 8446, section 4.6.1).
	Lifetime time.Duration

	// Rotate is how long a key seals new tickets. It opens them for a Lifetime more, and is then
	// forgotten. Default: a twelfth of Lifetime; at least a sixtieth of it.
	Rotate time.Duration

	// Time is the clock. Default: time.Now.
	Time func() time.Time

	mu   sync.Mutex
	keys []*ticketKey // the newest first
}

type ticketKey struct {
	name   [keyNameLen]byte
	aead   cipher.AEAD
	born   time.Time
	sealed uint64
}

func (k *TicketKeys) check() error {
	if k.Lifetime < 0 || k.Lifetime > maxLifetime {
		return errors.New("itls: TicketKeys.Lifetime is not between 0 and 7 days")
	}
	if k.Rotate < 0 || k.Rotate > 0 && k.Rotate < k.lifetime()/60 {
		return errors.New("itls: TicketKeys.Rotate is less than a sixtieth of Lifetime")
	}
	return nil
}

func (k *TicketKeys) lifetime() time.Duration {
	if k.Lifetime == 0 {
		return 12 * time.Hour
	}
	return k.Lifetime
}

func (k *TicketKeys) rotate() time.Duration {
	if k.Rotate == 0 {
		return k.lifetime() / 12
	}
	return k.Rotate
}

// now has no monotonic part, which stands still while a machine sleeps.
func (k *TicketKeys) now() time.Time {
	if k.Time != nil {
		return k.Time().Round(0)
	}
	return time.Now().Round(0)
}

// Drop forgets all keys: no ticket of before opens any more.
func (k *TicketKeys) Drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = nil
}

// expire forgets the keys of which every ticket is over. The caller holds k.mu.
func (k *TicketKeys) expire(now time.Time) {
	k.keys = slices.DeleteFunc(k.keys, func(key *ticketKey) bool {
		return now.Before(key.born) || now.Sub(key.born) >= k.rotate()+k.lifetime()
	})
}

// sealing is the key for new tickets.
func (k *TicketKeys) sealing() (*ticketKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	k.expire(now)
	if len(k.keys) == 0 || now.Sub(k.keys[0].born) >= k.rotate() || k.keys[0].sealed == maxSealed {
		key, err := newTicketKey(now)
		if err != nil {
			return nil, err
		}
		k.keys = slices.Insert(k.keys, 0, key)
		if len(k.keys) > maxTicketKeys {
			k.keys = k.keys[:maxTicketKeys]
		}
	}
	k.keys[0].sealed++
	return k.keys[0], nil
}

func newTicketKey(now time.Time) (*ticketKey, error) {
	var secret [32]byte
	rand.Read(secret[:])
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		return nil, err
	}
	key := &ticketKey{born: now}
	rand.Read(key.name[:])
	key.aead, err = cipher.NewGCMWithRandomNonce(block)
	return key, err
}

// seal makes a ticket of s.
func (k *TicketKeys) seal(s *ticketState) ([]byte, error) {
	plain, err := s.append(nil)
	if err != nil {
		return nil, err
	}
	key, err := k.sealing()
	if err != nil {
		return nil, err
	}
	return key.aead.Seal(slices.Clone(key.name[:]), nil, plain, key.label()), nil
}

// open returns what seal made a ticket of, or nil when no key of now opens it. suites are those that
// this server can have.
func (k *TicketKeys) open(ticket []byte, suites func(id uint16) *suite) *ticketState {
	if len(ticket) < keyNameLen || len(ticket) > maxTicket {
		return nil
	}
	k.mu.Lock()
	k.expire(k.now())
	// The name is no secret.
	i := slices.IndexFunc(k.keys, func(key *ticketKey) bool { return string(key.name[:]) == string(ticket[:keyNameLen]) })
	var key *ticketKey
	if i >= 0 {
		key = k.keys[i]
	}
	k.mu.Unlock()
	if key == nil {
		return nil
	}
	plain, err := key.aead.Open(nil, nil, ticket[keyNameLen:], key.label())
	if err != nil {
		return nil
	}
	return parseTicketState(plain, suites)
}

// label is what a seal covers beside the state.
func (key *ticketKey) label() []byte { return append([]byte(ticketMagic), key.name[:]...) }

// A ticketState is what a server has to know to resume, and what must be as it was.
type ticketState struct {
	suite         *suite
	psk           []byte
	issued        time.Time
	authenticated time.Time // the full handshake that all rests on
	ageAdd        uint32

	serverName string
	authority  string // of the offer, with the next; "" where none came
	proxies    [][32]byte
	alpn       string
	leaf       [32]byte // SHA-256 of the server's certificate
	asked      bool     // for a certificate of the client
	certs      [][]byte // the client's chain, DER
}

func (s *ticketState) append(b []byte) ([]byte, error) {
	bb := cryptobyte.NewBuilder(append(b, ticketMagic...))
	vector8 := func(p string) { bb.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(p)) }) }
	bb.AddUint16(tlsmsg.VersionTLS13)
	bb.AddUint16(s.suite.id)
	bb.AddBytes(s.psk)
	bb.AddUint64(uint64(s.issued.UnixMilli()))
	bb.AddUint64(uint64(s.authenticated.UnixMilli()))
	bb.AddUint32(s.ageAdd)
	vector8(s.serverName)
	vector8(s.authority)
	bb.AddUint8(uint8(len(s.proxies)))
	for _, p := range s.proxies {
		bb.AddBytes(p[:])
	}
	vector8(s.alpn)
	bb.AddBytes(s.leaf[:])
	asked := uint8(0)
	if s.asked {
		asked = 1
	}
	bb.AddUint8(asked)
	bb.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, der := range s.certs {
			b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(der) })
		}
	})
	return bb.Bytes()
}

// parseTicketState returns nil for what append did not write.
func parseTicketState(plain []byte, suites func(id uint16) *suite) *ticketState {
	in := cryptobyte.String(plain)
	s := new(ticketState)
	var magic []byte
	var version, id uint16
	if !in.ReadBytes(&magic, len(ticketMagic)) || string(magic) != ticketMagic ||
		!in.ReadUint16(&version) || version != tlsmsg.VersionTLS13 || !in.ReadUint16(&id) {
		return nil
	}
	if s.suite = suites(id); s.suite == nil {
		return nil
	}
	var issued, authenticated uint64
	var name, authority, alpn cryptobyte.String
	var proxies, asked uint8
	if !in.ReadBytes(&s.psk, s.suite.size) || !in.ReadUint64(&issued) || !in.ReadUint64(&authenticated) || !in.ReadUint32(&s.ageAdd) ||
		!in.ReadUint8LengthPrefixed(&name) || !in.ReadUint8LengthPrefixed(&authority) || !in.ReadUint8(&proxies) || proxies > tlsmsg.MaxProxies {
		return nil
	}
	for range proxies {
		var p [32]byte
		if !in.CopyBytes(p[:]) {
			return nil
		}
		s.proxies = append(s.proxies, p)
	}
	ok := false
	if !in.ReadUint8LengthPrefixed(&alpn) || !in.CopyBytes(s.leaf[:]) || !in.ReadUint8(&asked) || asked > 1 {
		return nil
	}
	if s.certs, ok = readList(&in); !ok || !in.Empty() || issued > maxMillis || authenticated > issued {
		return nil
	}
	s.issued, s.authenticated = time.UnixMilli(int64(issued)), time.UnixMilli(int64(authenticated))
	s.serverName, s.authority, s.alpn = string(name), string(authority), string(alpn)
	s.asked = asked == 1
	return s
}
