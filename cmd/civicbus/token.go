package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"civicbus/internal/config"
	"civicbus/internal/gateway/identity"
	"civicbus/internal/gateway/web"

	"github.com/spf13/cobra"
)

// developmentKey is where an embedded cluster keeps its development issuer's key.
func developmentKey(cfg *config.Config) string {
	return filepath.Join(cfg.Embedded.DataDir, "development-issuer.key")
}

func newToken() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "A token of the development issuer, for the gateway of civicbus up", Args: args(cobra.NoArgs),
		Long: `Prints an access token for the gateway that civicbus up runs. It stands for an organisation, an operator or a person, and
is signed with the key in the embedded cluster's data directory: whoever can read that can be anybody. No other gateway takes
it; there a client gets its tokens from an issuer that the access file names (gateway.access_file).

The person, scheme:id, is read from a file or standard input.`,
		Example: "  civicbus token --organisation kela.fi\n  civicbus token --operator anna --scope subscriptions:approve\n  civicbus token --person < subject.txt"}
	flags := cmd.Flags()
	flags.String("organisation", "", "the organisation that it stands for")
	flags.String("operator", "", "the operator that it stands for")
	flags.Bool("person", false, "it stands for the person in --file")
	flags.StringSlice("scope", web.Scopes(), "what it allows")
	flags.Duration("lifetime", time.Hour, "how long it is valid")
	subjectFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd, true)
		if err != nil {
			return err
		}
		g, err := granted(cmd)
		if err != nil {
			return err
		}
		g.Audience = cfg.Gateway.Audience
		path := developmentKey(cfg)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no development issuer in %s: civicbus up makes it (embedded.data_dir)", cfg.Embedded.DataDir)
		}
		issuer, err := identity.OpenDevelopment(path)
		if err != nil {
			return err
		}
		token, err := issuer.Token(g, time.Now())
		if err != nil {
			return usage(err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
		return err
	}
	return cmd
}

// granted is what the flags ask for.
func granted(cmd *cobra.Command) (g identity.Grant, err error) {
	flags := cmd.Flags()
	person, errPerson := flags.GetBool("person")
	var errs [4]error
	g.Organisation, errs[0] = flags.GetString("organisation")
	g.Operator, errs[1] = flags.GetString("operator")
	g.Scopes, errs[2] = flags.GetStringSlice("scope")
	g.Lifetime, errs[3] = flags.GetDuration("lifetime")
	if err := errors.Join(append(errs[:], errPerson)...); err != nil {
		return g, err
	}
	if g.Lifetime <= 0 || g.Lifetime > 24*time.Hour {
		return g, usage(errors.New("--lifetime must lie above 0 and be at most 24h"))
	}
	if person {
		s, err := subject(cmd)
		if err != nil {
			return g, err
		}
		g.Person = s.Scheme + ":" + s.ID
	}
	return g, nil
}
