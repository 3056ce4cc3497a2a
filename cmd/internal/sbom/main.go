// Command sbom writes the bill of materials of a package: which modules, at
// which versions, the linker put into its programs. It reads that from the
// programs themselves (debug/buildinfo), so it says what is in them and not
// what was meant to be. The format is CycloneDX 1.6, JSON.
//
//	sbom -version 0.1.0 -time 1767225600 tcpmemd tcpmemctl tcpmemd-action
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	version := flag.String("version", "", "`version` of the package")
	epoch := flag.Int64("time", 0, "when it was made, in `seconds` since 1970")
	flag.Parse()
	if *version == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(os.Stdout, *version, time.Unix(*epoch, 0), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// write writes the bill of the programs at paths. The same programs give the
// same bytes: components are sorted, and there is no serial number.
func write(w io.Writer, version string, made time.Time, paths []string) error {
	var (
		whole     = cdx.Component{BOMRef: "package", Type: cdx.ComponentTypeApplication, Name: "tcpmemd", Version: version}
		programs  []cdx.Component
		libraries = map[string]cdx.Component{}
		links     []cdx.Dependency
		names     []string
	)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read program: %w", err)
		}
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			return fmt.Errorf("read build info of %s: %w", path, err)
		}
		program := describe(filepath.Base(path), version, content, info)
		programs = append(programs, program)
		names = append(names, program.BOMRef)
		whole.PackageURL = "pkg:golang/" + info.Main.Path + "@v" + version

		var linked []string
		for _, lib := range modules(info) {
			libraries[lib.BOMRef] = lib
			linked = append(linked, lib.BOMRef)
		}
		links = append(links, cdx.Dependency{Ref: program.BOMRef, Dependencies: &linked})
	}
	for _, lib := range libraries {
		programs = append(programs, lib)
	}
	slices.SortFunc(programs, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	links = append(links, cdx.Dependency{Ref: whole.BOMRef, Dependencies: &names})

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: made.UTC().Format(time.RFC3339), Component: &whole}
	bom.Components = &programs
	bom.Dependencies = &links
	if err := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write bill: %w", err)
	}
	return nil
}

// describe is a program: its bytes, and how they were built.
func describe(name, version string, content []byte, info *debug.BuildInfo) cdx.Component {
	sum := sha256.Sum256(content)
	settings := []cdx.Property{{Name: "go:package", Value: info.Path}}
	for _, s := range info.Settings {
		settings = append(settings, cdx.Property{Name: "go:build:" + s.Key, Value: s.Value})
	}
	return cdx.Component{
		BOMRef:     "program/" + name,
		Type:       cdx.ComponentTypeApplication,
		Name:       name,
		Version:    version,
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties: &settings,
	}
}

// modules lists what is linked into a program: Go's own library and the
// modules, each as it was built, replaced or not. go.sum's hash is over a
// module's list of files, not over a file: it is a property, no hash.
func modules(info *debug.BuildInfo) []cdx.Component {
	std := strings.TrimPrefix(info.GoVersion, "go")
	found := []cdx.Component{library("std", std, "")}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		found = append(found, library(m.Path, m.Version, m.Sum))
	}
	return found
}

func library(path, version, sum string) cdx.Component {
	url := "pkg:golang/" + path + "@" + version
	lib := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url}
	if sum != "" {
		lib.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return lib
}
