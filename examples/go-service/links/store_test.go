package links

import (
	"errors"
	"sync"
	"testing"
)

func TestTheSameAddressGetsTheSameCode(t *testing.T) {
	s := NewStore()
	first, _ := s.Shorten("https://example.com/a")
	second, _ := s.Shorten("https://example.com/b")
	again, _ := s.Shorten("https://example.com/a")
	if first == second || first != again {
		t.Fatalf("codes: %q, %q, %q", first, second, again)
	}
}

func TestOnlyWebAddressesAreTaken(t *testing.T) {
	for _, bad := range []string{"", "example.com", "/path", "ftp://example.com", "http://"} {
		if _, err := NewStore().Shorten(bad); !errors.Is(err, ErrBadURL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestManyAtOnceLoseNothing(t *testing.T) {
	s := NewStore()
	var group sync.WaitGroup
	for i := range 200 {
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := s.Shorten("https://example.com/" + string(rune('a'+i%26)) + string(rune('a'+i/26))); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if s.Len() != 200 {
		t.Fatalf("%d codes", s.Len())
	}
}
