//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import "golang.org/x/sys/unix"

// fread is FREAD of <sys/fcntl.h>: the queue of what was typed.
const fread = 1

// discardInput drops what was typed into the terminal and not read.
func discardInput(fd uintptr) error {
	return unix.IoctlSetPointerInt(int(fd), unix.TIOCFLUSH, fread)
}
