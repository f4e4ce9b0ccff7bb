package store

import (
	"context"
	"log/slog"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapLogger returns a logger for etcd that writes to log: its warnings as information (each message at most once in
// ten seconds, it repeats itself while a member is away), its errors as warnings, the rest for debugging.
func zapLogger(log *slog.Logger) *zap.Logger {
	core := zapcore.NewSamplerWithOptions(slogCore{log: log.With("component", "etcd")}, 10*time.Second, 1, 0)
	return zap.New(core)
}

// slogCore is a zapcore.Core on a slog.Logger.
type slogCore struct{ log *slog.Logger }

func slogLevel(level zapcore.Level) slog.Level {
	switch {
	case level >= zapcore.DPanicLevel:
		return slog.LevelError
	case level >= zapcore.ErrorLevel:
		return slog.LevelWarn
	case level >= zapcore.WarnLevel:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}

// Enabled implements zapcore.Core. Etcd's own debugging is never wanted.
func (c slogCore) Enabled(level zapcore.Level) bool {
	return level >= zapcore.InfoLevel && c.log.Enabled(context.Background(), slogLevel(level))
}

// With implements zapcore.Core.
func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{log: c.log.With(slogArgs(fields)...)}
}

// Check implements zapcore.Core.
func (c slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	args := append([]any{"message", entry.Message}, slogArgs(fields)...)
	c.log.Log(context.Background(), slogLevel(entry.Level), "etcd says", args...)
	return nil
}

// Sync implements zapcore.Core.
func (c slogCore) Sync() error { return nil }

func slogArgs(fields []zapcore.Field) []any {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	var args []any
	for key, value := range enc.Fields {
		args = append(args, slog.Any(key, value))
	}
	return args
}
