package consent

import "vitrine/client"

// Memory is the Store's, in the file that [MemoryPath] names. It is read when it is first used.
func (s *Store) Memory() *Memory { return s.memory }

// Reached implements [client.Memory].
func (s *Store) Reached(authority string) (client.Level, bool) { return s.memory.Reached(authority) }

// Remember implements [client.Memory].
func (s *Store) Remember(authority string, l client.Level) { s.memory.Remember(authority, l) }

// Forget implements [client.Memory].
func (s *Store) Forget(authority string) { s.memory.Forget(authority) }
