package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// maxFileBytes bounds a configuration file. All settings with what they mean take about 8 kB.
const maxFileBytes = 64 << 10

// checkFile refuses a file that is too long, and one with a key twice: the parser would list each pair of equal keys, and of a few
// thousand there are millions.
func checkFile(raw []byte) error {
	if len(raw) > maxFileBytes {
		return fmt.Errorf("it has %d bytes, at most %d", len(raw), maxFileBytes)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(raw, &root); err != nil {
		return err
	}
	return checkKeys(&root)
}

func checkKeys(node *yaml.Node) error {
	if node.Kind == yaml.MappingNode {
		lines := map[string]int{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if line, twice := lines[key.Value]; twice && key.Kind == yaml.ScalarNode {
				return fmt.Errorf("key %q stands in line %d and in line %d", key.Value, line, key.Line)
			}
			lines[key.Value] = key.Line
		}
	}
	for _, below := range node.Content {
		if err := checkKeys(below); err != nil {
			return err
		}
	}
	return nil
}
