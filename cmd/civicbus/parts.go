package main

import "github.com/spf13/cobra"

// parts are the commands that run civicbus itself.
func parts() []*cobra.Command { return []*cobra.Command{newUp(), newRun(), newDemo()} }
