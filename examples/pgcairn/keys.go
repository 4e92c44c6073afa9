package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/plugin"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
)

// cipher makes the cipher of --recipient and --identity; without any it is nil.
func (c *common) cipher() (repo.Cipher, error) {
	var to []age.Recipient
	for _, list := range c.Recipients {
		for _, text := range words(list) {
			r, err := parseRecipient(text)
			if err != nil { // which may be a secret: it is not said
				return nil, &usageError{fmt.Errorf("recipient %d: %w", len(to)+1, err)}
			}
			to = append(to, r)
		}
	}
	var from []age.Identity
	for _, path := range c.identityFiles() {
		ids, err := readIdentities(path)
		if err != nil {
			return nil, fmt.Errorf("identity file %s: %w", path, err)
		}
		from = append(from, ids...)
	}
	if len(to)+len(from) == 0 {
		return nil, nil //nolint:nilnil // the library's way to say "no encryption"
	}
	return crypto.New(to, from)
}

// words are what a list in an environment variable has, with spaces or commas between.
func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
}

// identityFiles are the files of --identity, each of which may name several as --recipient does, if there is none of that
// very name.
func (c *common) identityFiles() (all []string) {
	for _, text := range c.Identities {
		if _, err := os.Stat(text); err != nil && len(words(text)) > 1 {
			all = append(all, words(text)...)
			continue
		}
		all = append(all, text)
	}
	return all
}

// parseRecipient parses a recipient of age or of one of its plugins.
func parseRecipient(text string) (age.Recipient, error) {
	if strings.HasPrefix(strings.ToUpper(text), "AGE-") {
		return nil, errors.New("it is an identity, which is secret: give its recipient, as age-keygen -y tells it")
	}
	if strings.HasPrefix(text, "age1") && !strings.HasPrefix(text, "age1pq1") && strings.Count(text, "1") > 1 {
		return plugin.NewRecipient(text, pluginUI())
	}
	rs, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	return rs[0], nil
}

// readIdentities reads an identity file, as age-keygen and `pgcairn key generate` write it.
func readIdentities(path string) ([]age.Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ids []age.Identity
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, "AGE-PLUGIN-") {
			continue
		}
		id, err := plugin.NewIdentity(strings.TrimSpace(line), pluginUI())
		if err != nil {
			return nil, fmt.Errorf("error at line %d: %w", i+1, err)
		}
		ids = append(ids, id)
		lines[i] = "# of a plugin"
	}
	if len(ids) > 0 && !slices.ContainsFunc(lines, func(l string) bool { return l != "" && !strings.HasPrefix(l, "#") }) {
		return ids, nil
	}
	own, err := age.ParseIdentities(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil {
		return nil, err
	}
	return append(ids, own...), nil
}

// pluginUI lets plugins ask on the terminal.
func pluginUI() *plugin.ClientUI {
	say := func(format string, v ...any) { fmt.Fprintf(os.Stderr, format+"\n", v...) }
	return plugin.NewTerminalUI(say, say)
}
