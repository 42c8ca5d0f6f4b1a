// Command topk is the charts system: one binary, a role per subcommand.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "topk:", err)
		os.Exit(exitCode(err))
	}
}

// An exitError is one whose exit code says more than 1 does.
type exitError struct {
	code int
	error
}

func (e exitError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var coded exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return 1
}

// commands is the command line: flags, their environment variables and
// defaults, as --help shows them.
type commands struct {
	Up       upCommand       `cmd:"" help:"Run everything on this machine: ClickHouse, Kafka, Redis and all roles."`
	Serve    serveCommand    `cmd:"" help:"Run the gateway, the query API and the charts page."`
	Refresh  refreshCommand  `cmd:"" help:"Run the refresher: keep the snapshots in Redis fresh from ClickHouse."`
	Migrate  migrateCommand  `cmd:"" help:"Create the topic, bring ClickHouse to the newest schema and wire it to Kafka."`
	Check    checkCommand    `cmd:"" help:"Prove that what is stored and served is exact; say what is not, and repair it."`
	Load     loadCommand     `cmd:"" help:"Load the song catalog or the users' segments; run, and list, the scheduled jobs."`
	Simulate simulateCommand `cmd:"" help:"Send plays made from a week of real charts, or measure how fresh charts are."`

	LogLevel  slog.Level `help:"Least level that is logged: debug, info, warn or error." default:"info" env:"TOPK_LOG_LEVEL"`
	LogFormat string     `help:"Logs as text or json." enum:"text,json" default:"text" env:"TOPK_LOG_FORMAT"`
}

const description = `topk turns plays of songs into exact Top-K charts: by any dimension, for any
window, a second old.

"topk up" needs no other server. The roles on their own find ClickHouse, Kafka
and Redis by their flags or environment variables, whose defaults reach a
running "topk up".`

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	out, err io.Writer
}

// run is the program: what main and the tests start.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	var cli commands
	exited := false
	parser, err := kong.New(&cli,
		kong.Name("topk"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if exited { // --help was asked for and shown
		return nil
	}
	if err != nil {
		return exitError{2, fmt.Errorf("%w (topk --help tells more)", err)}
	}
	log := newLog(stderr, cli.LogLevel, cli.LogFormat)
	err = command.Run(log, console{stdin, stdout, stderr})
	if errors.Is(err, context.Canceled) && ctx.Err() != nil { // Ctrl-C
		return nil
	}
	return err
}

func newLog(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
