package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestTerminalScripts are the scripts in which somebody types when asked, and not before: a signal typed
// before there is a process would be lost.
func TestTerminalScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/terminal",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": cmdServe, "exits": cmdExits, "json": cmdJSON, "make": cmdMake, "same": cmdSame, "silent": cmdSilent, "dialogue": cmdDialogue,
			"halt": cmdHalt, "stock": cmdStock,
		},
	})
}

// dialogueTime bounds a dialogue that does not go as it should.
const dialogueTime = time.Minute

// cmdDialogue is "dialogue N FILE vitrine ARGS...": the command runs on a terminal of its own and has to end with
// status N. A line of FILE is "TEXT => TYPED": when the terminal shows TEXT, TYPED is typed; a Go string
// without its quotes. $WORK/terminal gets what the terminal showed.
func cmdDialogue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: dialogue N FILE vitrine ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	path, err := exec.LookPath(args[2])
	ts.Check(err)
	control, tty, err := openTerminal()
	ts.Check(err)
	defer control.Close()
	cmd := exec.Command(path, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH"), "GORACE=" + ts.Getenv("GORACE")}
	for _, name := range []string{"VITRINE_PROXY", "VITRINE_PROXY_ROOTS", "VITRINE_CONSENT", "XDG_STATE_HOME"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if len(args) > 3 && args[3] == "inner" { // its streams are what the user types and reads
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	}
	cmd.ExtraFiles = []*os.File{tty}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 3}
	err = cmd.Start()
	tty.Close() // the command has its own
	ts.Check(err)
	kill := time.AfterFunc(dialogueTime, func() { cmd.Process.Kill(); control.Close() })
	defer kill.Stop()

	shown, missing := talk(control, ts.ReadFile(args[1]))
	err = cmd.Wait()
	ts.Check(os.WriteFile(ts.MkAbs("terminal"), []byte(shown), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs("output"), out.Bytes(), 0o644))
	ts.Logf("[terminal]\n%s\n[output]\n%s", shown, out.String())
	if missing != "" {
		ts.Fatalf("the terminal never showed %q", missing)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok || ok && exit.ExitCode() != want || !ok && want != 0 {
		ts.Fatalf("ended with %v, want status %d", err, want)
	}
}

// talk types each answer when its text has been shown, and reads until the terminal has no user any more.
func talk(control *os.File, script string) (shown, missing string) {
	type turn struct{ text, typed string }
	var turns []turn
	for line := range strings.Lines(script) {
		text, typed, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " => ")
		if s, err := strconv.Unquote(`"` + typed + `"`); err == nil {
			typed = s
		}
		turns = append(turns, turn{text, typed})
	}
	buf := make([]byte, 4096)
	seen := 0
	for {
		if len(turns) > 0 {
			if i := strings.Index(shown[seen:], turns[0].text); i >= 0 {
				seen += i + len(turns[0].text)
				io.WriteString(control, turns[0].typed)
				turns = turns[1:]
				continue
			}
		}
		n, err := control.Read(buf)
		shown += string(buf[:n])
		if err != nil { // EIO: the last user closed it
			break
		}
	}
	if len(turns) > 0 {
		missing = turns[0].text
	}
	return shown, missing
}

// openTerminal returns both ends of a new pseudo-terminal.
func openTerminal() (control, tty *os.File, err error) {
	control, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	raw, err := control.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var unlock, n int32
	var failed syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock)))
		if failed == 0 {
			_, _, failed = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPTN, uintptr(unsafe.Pointer(&n)))
		}
	})
	if failed != 0 {
		err = failed
	}
	if err != nil {
		control.Close()
		return nil, nil, err
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		control.Close()
	}
	return control, tty, err
}
