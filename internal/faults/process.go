package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Command is what a process runs.
type Command struct {
	Path string
	Args []string
	Env  []string // beside this process's own
}

// A Process can be killed and started again, with the same command, any number
// of times. It dies with this process.
type Process struct {
	Name    string
	Kills   int
	command Command
	logPath string
	ready   func(context.Context) error

	mu      sync.Mutex
	running *run
}

// A run is one life of a process.
type run struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid after exited
}

const (
	startTimeout = 90 * time.Second
	firstRetry   = 20 * time.Millisecond
	lastRetry    = time.Second // what is asked may cost something
)

// Start runs the process and waits until it is ready.
func (p *Process) Start(ctx context.Context) error {
	r, err := start(p.command, p.logPath)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.mu.Lock()
	p.running = r
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = Await(ctx, func() error {
		select {
		case <-r.exited:
			return fmt.Errorf("%w: %w", errEnded, errors.Join(r.err, errors.New("it exited")))
		default:
			return p.ready(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("%s does not get ready: %w\n%s", p.Name, err, p.Log())
	}
	return nil
}

var errEnded = errors.New("the process has ended")

// Await tries until it succeeds, the process it needs has ended or ctx is done,
// ever more rarely.
func Await(ctx context.Context, try func() error) error {
	for wait := firstRetry; ; wait = min(lastRetry, wait*3/2) {
		err := try()
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// PID is the process's number; 0 while it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0
	}
	return p.running.cmd.Process.Pid
}

// Kill ends the process as kill -9 does.
func (p *Process) Kill() {
	p.mu.Lock()
	r := p.running
	p.running = nil
	p.mu.Unlock()
	if r == nil {
		return
	}
	_ = r.cmd.Process.Kill() // it may have ended by itself
	<-r.exited
	p.Kills++
}

// Ended reports whether the process ended without having been killed, and why.
func (p *Process) Ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return nil
	}
	select {
	case <-p.running.exited:
		return fmt.Errorf("%s ended by itself: %w\n%s", p.Name, errors.Join(p.running.err, errEnded), p.Log())
	default:
		return nil
	}
}

// logTail is how much of a log is shown.
const logTail = 4 << 10

// Log is the end of what the process wrote.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-logTail):]))
}

func start(c Command, logPath string) (*run, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	r := &run{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel ties the child to the thread that forked it, not to the
		// process: this thread has to last as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			r.err = cmd.Wait()
		}
		close(r.exited)
	}()
	return r, <-started
}
