// REPLACE THIS FILE: your application knows its users and their rooms.
// For the demo, one user logs in with HTTP authentication: DEMO_LOGIN=ada:PASSWORD
package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"log"
	"net/http"
	"os"
	"strings"
)

// Room → user → role.
var members = map[string]map[string]string{"stand-up": {"ada": "host", "grace": "guest"}}

func checkDemoLogin() {
	user, password, _ := strings.Cut(os.Getenv("DEMO_LOGIN"), ":")
	if user == "" || len(password) < 16 {
		log.Fatal("Set DEMO_LOGIN to ada:PASSWORD, with a password of at least 16 characters.")
	}
}

// Returns the user, or answers 401. Yours reads the session of your application.
func loggedInUser(w http.ResponseWriter, r *http.Request) (string, bool) {
	user, password, _ := r.BasicAuth()
	given := sha256.Sum256([]byte(user + ":" + password))
	wanted := sha256.Sum256([]byte(os.Getenv("DEMO_LOGIN")))
	if subtle.ConstantTimeCompare(given[:], wanted[:]) == 1 {
		return user, true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="demo"`)
	write(w, 401, answer{Code: "login_required", Detail: "Log in first."})
	return "", false
}
