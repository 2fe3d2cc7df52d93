package consent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// read returns the grants in the file, and what it was then; neither if there is no file. Its errors name the file.
func read(path string) ([]Grant, fs.FileInfo, error) {
	text, info, err := readPrivate(path)
	if err != nil || info == nil {
		return nil, nil, err
	}
	grants, err := parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return grants, info, nil
}

// readPrivate returns what is in a file of the user's alone, at most maxFile bytes and one more, and what it was then;
// neither if there is no file. Its errors name the file.
func readPrivate(path string) ([]byte, fs.FileInfo, error) {
	if err := checkFolder(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		return nil, nil, err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s: it is not a regular file", path) // and opening it may wait for somebody
	}
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, nil
		}
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if err := checkPrivate(path, info, 0o600, os.Geteuid()); err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, err
	}
	return text, info, nil
}

// lockBeside makes the folder of the file at path if there is none, and locks the file against the user's other
// processes. The caller closes what it returns.
func lockBeside(path string) (io.Closer, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := checkFolder(path); err != nil { // before anything is made there
		return nil, err
	}
	return lockedfile.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
}

// changed says whether the file at path is another than seen, which is nil if there was none.
func changed(path string, seen fs.FileInfo) bool {
	info, err := os.Lstat(path)
	if err != nil || seen == nil {
		return !errors.Is(err, fs.ErrNotExist) || seen != nil
	}
	return !os.SameFile(info, seen) || !info.ModTime().Equal(seen.ModTime()) || info.Size() != seen.Size() || info.Mode() != seen.Mode()
}

// checkFolder is about the folder of the file at path.
func checkFolder(path string) error {
	folder := filepath.Dir(path)
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: it is not a folder", folder)
	}
	return checkPrivate(folder, info, 0o700, os.Geteuid())
}

// checkPrivate refuses what others than the user me may read, which tells whom the user visits, or write, which
// is to agree for the user.
func checkPrivate(path string, info fs.FileInfo, want fs.FileMode, me int) error {
	if runtime.GOOS == "windows" { // there the mode says nothing of others
		return nil
	}
	switch owner, known := ownerOf(info); {
	case known && owner != me:
		return fmt.Errorf("%s belongs to another user", path)
	case info.Mode().Perm()&0o077 == 0:
		return nil
	case info.IsDir() && filepath.Base(path) != folderName: // others may need it: it is /tmp, or a home
		return fmt.Errorf("others can read or write in %s (mode %04o); the grants need a folder of your own, such as \"mkdir -m 700\" makes", path, info.Mode().Perm())
	}
	return fmt.Errorf("others can read or write %s (mode %04o); only you may: chmod %o %s", path, info.Mode().Perm(), want, path)
}

// replace puts text in the place of the file, which was old, if it was there. The caller has the lock.
func replace(path string, text []byte, old fs.FileInfo) (err error) {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a process that was cut short
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(next)
		}
	}()
	if _, err := f.Write(text); err != nil {
		return err
	}
	// The clocks of file systems are coarse, and the number of the file before the last is free again:
	// without this two changes in one moment could look like none.
	if info, err := f.Stat(); err != nil {
		return err
	} else if old != nil && !info.ModTime().After(old.ModTime()) {
		if err := os.Chtimes(next, time.Time{}, old.ModTime().Add(time.Microsecond)); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// remove leaves no store, which grants nothing.
func remove(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a rename last. A revocation that a power cut takes back would be none.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" { // which cannot, and need not
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) { // some file systems have no such thing
		return err
	}
	return nil
}
