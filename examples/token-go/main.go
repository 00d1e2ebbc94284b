// Gives a logged-in user a token for one room. The API key stays in this process.
package main

import (
	"bytes"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"time"
)

// A redirect would carry the key to another address, so none is followed.
var client = &http.Client{
	Timeout:       5 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

type answer struct {
	Token  string `json:"token,omitempty"`
	Code   string `json:"code,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func token(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		write(w, 405, answer{Code: "method_not_allowed", Detail: "Use POST."})
		return
	}
	user, ok := loggedInUser(w, r)
	if !ok {
		return
	}
	room := r.URL.Query().Get("room")
	role, ok := members[room][user]
	if !ok {
		write(w, 403, answer{Code: "room_not_allowed", Detail: "You may not enter this room."})
		return
	}
	status, body := requestToken(map[string]string{"room": room, "user": user, "role": role})
	write(w, status, body)
}

// Returns the status and the body of the answer to the page. Logs the reason, never the token.
func requestToken(wanted map[string]string) (int, answer) {
	var body answer
	response, err := postKey(wanted)
	if err == nil {
		defer response.Body.Close()
		err = json.NewDecoder(response.Body).Decode(&body)
	}
	if err != nil {
		log.Printf("Signalbox does not answer: %v", err)
		return 503, answer{Code: "unreachable", Detail: "The call server does not answer."}
	}
	if body.Token != "" {
		return 200, answer{Token: body.Token}
	}
	log.Printf("Signalbox gives no token: %d %s: %s", response.StatusCode, body.Code, body.Detail)
	refusal := answer{Code: body.Code, Detail: "The call server refused."}
	switch response.StatusCode {
	case 403, 429, 503:
		return response.StatusCode, refusal
	}
	// 403 and "not now" concern the user. All other refusals are faults of this program or its key.
	return 502, refusal
}

func postKey(wanted map[string]string) (*http.Response, error) {
	body, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest("POST", os.Getenv("SIGNALBOX_URL")+"/auth/token", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.SetBasicAuth(os.Getenv("KEY_ID"), os.Getenv("KEY_SECRET"))
	request.Header.Set("Content-Type", "application/json")
	return client.Do(request)
}

func write(w http.ResponseWriter, status int, body answer) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func main() {
	for _, name := range []string{"SIGNALBOX_URL", "KEY_ID", "KEY_SECRET"} {
		if os.Getenv(name) == "" {
			log.Fatalf("Set %s.", name)
		}
	}
	checkDemoLogin()
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	http.HandleFunc("/token", token)
	server := &http.Server{Addr: "127.0.0.1:" + port, ReadHeaderTimeout: 5 * time.Second}
	log.Printf("Tokens at http://localhost:%s/token", port)
	log.Fatal(server.ListenAndServe())
}
