package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
)

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

func u8(n uint8) []byte   { return []byte{n} }
func u16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
func u32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func text(s string) []byte         { return []byte(s) }
func fill(c byte, n int) []byte    { return bytes.Repeat([]byte{c}, n) }
func vec8(b []byte) []byte         { return join(u8(uint8(len(b))), b) }
func vec16(b []byte) []byte        { return join(u16(uint16(len(b))), b) }
func hexed(b []byte) string        { return hex.EncodeToString(b) }
func cut(b []byte, n int) []byte   { return b[:len(b)-n] }
func more(b []byte, c byte) []byte { return join(b, u8(c)) }
