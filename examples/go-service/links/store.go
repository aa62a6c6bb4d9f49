// Package links keeps short codes for long addresses.
package links

import (
	"errors"
	"net/url"
	"strconv"
	"sync"
)

// ErrBadURL is returned for anything that is not an absolute http or https address.
var ErrBadURL = errors.New("want an absolute http or https address")

// Store maps codes to addresses. The zero value is not usable; see NewStore.
type Store struct {
	mu     sync.RWMutex
	byCode map[string]string
	byURL  map[string]string
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{byCode: map[string]string{}, byURL: map[string]string{}}
}

// Shorten returns the code of an address: the same code every time.
func (s *Store) Shorten(address string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return "", ErrBadURL
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if code, known := s.byURL[address]; known {
		return code, nil
	}
	code := strconv.FormatInt(int64(len(s.byCode))+1, 36)
	s.byCode[code] = address
	s.byURL[address] = code
	return code, nil
}

// Lookup returns the address behind a code.
func (s *Store) Lookup(code string) (string, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	address, known := s.byCode[code]
	return address, known
}

// Len returns the number of codes.
func (s *Store) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byCode)
}
