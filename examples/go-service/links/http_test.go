package links

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func server(t *testing.T) (*httptest.Server, *http.Client) {
	t.Helper()
	s := httptest.NewServer(Handler(NewStore()))
	t.Cleanup(s.Close)
	client := s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s, client
}

func TestAShortenedAddressRedirects(t *testing.T) {
	s, client := server(t)
	made, err := client.Post(s.URL+"/links", "application/json", strings.NewReader(`{"url": "https://example.com/long"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer made.Body.Close()
	var body struct{ Code string }
	if err := json.NewDecoder(made.Body).Decode(&body); err != nil || made.StatusCode != http.StatusCreated {
		t.Fatalf("%d, %v", made.StatusCode, err)
	}
	got, err := client.Get(s.URL + "/" + body.Code)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusFound || got.Header.Get("Location") != "https://example.com/long" {
		t.Fatalf("%d to %q", got.StatusCode, got.Header.Get("Location"))
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	s, client := server(t)
	for body, want := range map[string]int{
		"not json":                              http.StatusBadRequest,
		`{"url": "mailto:a@example.com"}`:       http.StatusUnprocessableEntity,
		`{"url": "` + strings.Repeat("x", 9000): http.StatusBadRequest,
	} {
		response, err := client.Post(s.URL+"/links", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%.20q: %d, want %d", body, response.StatusCode, want)
		}
	}
	missing, err := client.Get(s.URL + "/nothing")
	if err != nil {
		t.Fatal(err)
	}
	missing.Body.Close()
	if missing.StatusCode != http.StatusNotFound {
		t.Errorf("unknown code: %d", missing.StatusCode)
	}
}
