// Package cache says where the scripts keep the engines they have fetched.
package cache

import (
	"fmt"
	"os"
	"path/filepath"
)

// Dir is TOPK_CACHE, or topk in the user's cache folder.
func Dir() (string, error) {
	if dir := os.Getenv("TOPK_CACHE"); dir != "" {
		return dir, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set TOPK_CACHE): %w", err)
	}
	return filepath.Join(user, "topk"), nil
}
