package vectors_test

import (
	"fmt"

	"vitrine/spec/vectors"
)

// An implementation gives the bytes of each vector to its own parser and compares what comes out with Expect and
// Inputs.
func ExampleLoad() {
	list, err := vectors.Load("hop-binding")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range list {
		fmt.Printf("%s: %x is %s: %s\n", v.Name, v.Bytes, v.Inputs["binding"], v.Expect)
	}
	// Output:
	// low: 72345678 is f2345678: success
	// top: deadbeef is deadbeef: success
	// zero: 00000000 is 80000000: success
}
