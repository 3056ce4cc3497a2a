package main

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// The test's own program is one with modules in it.
func TestWrite(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	made := time.Unix(1767225600, 0)
	var first, again bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &again} {
		if err := write(w, "1.2.3", made, []string{self}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Error("the same program gave two bills")
	}

	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&first, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if got := bom.Metadata.Timestamp; got != "2026-01-01T00:00:00Z" {
		t.Errorf("timestamp %s", got)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) == 0 {
		t.Fatal("the test's program has no modules")
	}
	for _, m := range info.Deps {
		i := slices.IndexFunc(*bom.Components, func(c cdx.Component) bool { return c.Name == m.Path })
		if i < 0 {
			t.Errorf("%s is linked and not in the bill", m.Path)
		} else if c := (*bom.Components)[i]; c.Version != m.Version || c.PackageURL != "pkg:golang/"+m.Path+"@"+m.Version {
			t.Errorf("%s: version %s, %s", m.Path, c.Version, c.PackageURL)
		}
	}
	i := slices.IndexFunc(*bom.Components, func(c cdx.Component) bool { return c.Name == filepath.Base(self) })
	if i < 0 || (*bom.Components)[i].Hashes == nil {
		t.Errorf("the program and its hash are not in the bill")
	}
	for _, d := range *bom.Dependencies {
		for _, ref := range append(*d.Dependencies, d.Ref) {
			if ref != "package" && !slices.ContainsFunc(*bom.Components, func(c cdx.Component) bool { return c.BOMRef == ref }) {
				t.Errorf("%s is depended on and no component", ref)
			}
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{script, script + ".gone"} {
		if err := write(&bytes.Buffer{}, "1", time.Unix(0, 0), []string{path}); err == nil {
			t.Errorf("%s: no error", filepath.Base(path))
		}
	}
}
