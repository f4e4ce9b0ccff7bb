package app

import (
	"fmt"
	"os"
	"strings"
)

// ReadSecret reads a secret from its file: the first line, without its end.
func ReadSecret(path string) (string, error) {
	if err := checkSecretFile(path); err != nil {
		return "", fmt.Errorf("%w: secret: %w", ErrConfig, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: read secret: %w", ErrConfig, err)
	}
	secret, _, _ := strings.Cut(string(content), "\n")
	if secret = strings.TrimRight(secret, "\r"); secret == "" {
		return "", fmt.Errorf("%w: %s holds no secret", ErrConfig, path)
	}
	return secret, nil
}

// checkSecretFile refuses a file that everybody on this machine may read.
func checkSecretFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("look at %s: %w", path, err)
	case info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case info.Mode().Perm()&0o004 != 0:
		return fmt.Errorf("%s can be read by everybody on this machine; chmod o-r it", path)
	}
	return nil
}

// WriteSecret writes a secret to a new file that only its owner may read.
func WriteSecret(path, secret string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make secret: %w", err)
	}
	if _, err = file.WriteString(secret + "\n"); err != nil {
		_ = file.Close() // the first error counts
		return fmt.Errorf("write secret: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write secret: %w", err)
	}
	return nil
}
