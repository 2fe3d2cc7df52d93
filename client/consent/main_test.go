package consent

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the other process of the tests that need one.
func TestMain(m *testing.M) {
	if job := os.Getenv("CONSENT_TEST_JOB"); job != "" {
		if err := otherProcess(job, os.Getenv("CONSENT_TEST_STORE"), os.Getenv("CONSENT_TEST_ID")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
