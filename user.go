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
