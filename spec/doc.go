// Package spec holds the specification, vitrine.md, and a test which holds that every rule in it has a
// test that names it. Its vectors are in spec/vectors; call vectors.Load to read them.
package spec
