package router

// Fingerprint returns a number that statements have in common which differ in nothing but constants, white space,
// comments and the case of words. It does not allocate.
func Fingerprint(sql []byte, opts Options) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3 // FNV-1a
	hash := uint64(offset)
	lx := NewLexer(sql, opts)
	for tok := lx.Next(); tok.Kind != TokenEnd; tok = lx.Next() {
		hash = (hash ^ uint64(tok.Kind)) * prime
		switch tok.Kind {
		case TokenString, TokenNumber, TokenParam:
			continue
		case TokenWord:
			for _, b := range sql[tok.Start:tok.End] {
				if 'A' <= b && b <= 'Z' {
					b += 'a' - 'A'
				}
				hash = (hash ^ uint64(b)) * prime
			}
		default:
			for _, b := range sql[tok.Start:tok.End] {
				hash = (hash ^ uint64(b)) * prime
			}
		}
	}
	return hash
}
