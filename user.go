package topk

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// HashUser gives the only form in which a user's id leaves the gateway:
// HMAC-SHA-256 under the deployment's pepper, as 64 lower-case hex digits.
func HashUser(pepper []byte, userID string) string {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte(userID))
	return hex.EncodeToString(mac.Sum(nil))
}

// IsUserHash reports whether s is what HashUser gives.
func IsUserHash(s string) bool {
	if len(s) != hex.EncodedLen(sha256.Size) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
