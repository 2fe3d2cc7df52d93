package httpsig

import "testing"

// What a signature costs an origin, and a client.
func BenchmarkSign(b *testing.B) {
	for name, key := range keys(b) {
		k := newMaker(b, key)
		plain := k.plain()
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m := plain.clone()
				k.sign(m, m.params())
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for name, key := range keys(b) {
		m := newMaker(b, key).signedHead()
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := m.verify(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
