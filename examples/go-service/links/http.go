package links

import (
	"encoding/json"
	"net/http"
)

// bodyMax bounds what a stranger may send: a long address and its JSON around it.
const bodyMax = 8 << 10

// Handler serves the store: POST /links, GET /{code}, GET /healthz.
func Handler(store *Store) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]any{"ok": true, "links": store.Len()})
	})
	mux.HandleFunc("POST /links", func(w http.ResponseWriter, r *http.Request) {
		var request struct{ URL string }
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyMax)).Decode(&request); err != nil {
			answer(w, http.StatusBadRequest, map[string]any{"error": "want JSON with a url"})
			return
		}
		code, err := store.Shorten(request.URL)
		if err != nil {
			answer(w, http.StatusUnprocessableEntity, map[string]any{"error": err.Error()})
			return
		}
		answer(w, http.StatusCreated, map[string]any{"code": code})
	})
	mux.HandleFunc("GET /{code}", func(w http.ResponseWriter, r *http.Request) {
		address, known := store.Lookup(r.PathValue("code"))
		if !known {
			answer(w, http.StatusNotFound, map[string]any{"error": "no such code"})
			return
		}
		http.Redirect(w, r, address, http.StatusFound)
	})
	return mux
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
