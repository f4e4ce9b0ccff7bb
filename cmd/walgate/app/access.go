package app

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/login"
)

// maxAccessBytes bounds a file of access rules, maps or users.
const maxAccessBytes = 8 << 20

// ReadAccess reads the files that say who may log in how. The error names the file and the line that is wrong.
func ReadAccess(c AuthConfig) (proxy.Access, error) {
	var access proxy.Access
	rules, errRules := readRules(c)
	access.Policy = login.Policy{Rules: rules}
	var errMaps, errUsers error
	if c.IdentFile != "" {
		content, err := readAccessFile(c.IdentFile)
		if errMaps = err; err == nil {
			access.Policy.Maps, errMaps = hba.ParseMaps(c.IdentFile, content, readAccessFile)
		}
	}
	if c.UserFile != "" {
		content, err := readAccessFile(c.UserFile)
		if errUsers = errors.Join(err, checkSecretFile(c.UserFile)); errUsers == nil {
			access.Users, errUsers = auth.ParseUsers(c.UserFile, content)
		}
	}
	if err := errors.Join(errRules, errMaps, errUsers); err != nil {
		return proxy.Access{}, fmt.Errorf("%w: proxy.auth: %w", ErrConfig, err)
	}
	return access, nil
}

// readRules reads the rules of the configuration itself and those of the file after them.
func readRules(c AuthConfig) (*hba.Rules, error) {
	if len(c.HBA) == 0 && c.HBAFile == "" {
		return hba.Default(), nil
	}
	own, err := hba.Parse("proxy.auth.hba", []byte(strings.Join(c.HBA, "\n")), nil)
	if err != nil || c.HBAFile == "" {
		return own, err
	}
	content, err := readAccessFile(c.HBAFile)
	if err != nil {
		return nil, err
	}
	more, err := hba.Parse(c.HBAFile, content, readAccessFile)
	if err != nil {
		return nil, err
	}
	return own.Then(more), nil
}

func readAccessFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxAccessBytes:
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxAccessBytes)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return content, nil
}
