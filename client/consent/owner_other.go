//go:build !unix

package consent

import "io/fs"

// ownerOf knows of none.
func ownerOf(fs.FileInfo) (uid int, known bool) { return 0, false }
