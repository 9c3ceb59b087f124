// Package numorstring: local replacement for the package of the same name in
// github.com/projectcalico/api, which is not published as a module.
// Written from how the calico module uses it.
package numorstring

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

type NumOrStringType int

const (
	NumOrStringNum NumOrStringType = iota
	NumOrStringString
)

type Uint8OrString struct {
	Type   NumOrStringType `json:"type"`
	NumVal uint8           `json:"numVal"`
	StrVal string          `json:"strVal"`
}

func (i Uint8OrString) String() string {
	if i.Type == NumOrStringString {
		return i.StrVal
	}
	return strconv.FormatUint(uint64(i.NumVal), 10)
}

func (i Uint8OrString) NumValue() (uint8, error) {
	if i.Type == NumOrStringString {
		n, err := strconv.ParseUint(i.StrVal, 10, 8)
		return uint8(n), err
	}
	return i.NumVal, nil
}

func (i Uint8OrString) MarshalJSON() ([]byte, error) {
	if n, err := i.NumValue(); err == nil {
		return json.Marshal(n)
	}
	return json.Marshal(i.StrVal)
}

func (i *Uint8OrString) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		if n, err := strconv.ParseUint(s, 10, 8); err == nil {
			*i = Uint8OrString{Type: NumOrStringNum, NumVal: uint8(n)}
			return nil
		}
		*i = Uint8OrString{Type: NumOrStringString, StrVal: s}
		return nil
	}
	var n uint8
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*i = Uint8OrString{Type: NumOrStringNum, NumVal: n}
	return nil
}

// ---- Protocol ----

const (
	ProtocolUDP     = "UDP"
	ProtocolTCP     = "TCP"
	ProtocolICMP    = "ICMP"
	ProtocolICMPv6  = "ICMPv6"
	ProtocolSCTP    = "SCTP"
	ProtocolUDPLite = "UDPLite"

	ProtocolUDPV1  = "udp"
	ProtocolTCPV1  = "tcp"
	ProtocolSCTPV1 = "sctp"
)

var allProtocolNames = []string{ProtocolUDP, ProtocolTCP, ProtocolICMP, ProtocolICMPv6, ProtocolSCTP, ProtocolUDPLite}

type Protocol Uint8OrString

func ProtocolFromInt(p uint8) Protocol {
	return Protocol(Uint8OrString{Type: NumOrStringNum, NumVal: p})
}

// ProtocolV3FromProtocolV1 upper-cases a v1 (lower case) name.
func ProtocolV3FromProtocolV1(p Protocol) Protocol {
	if p.Type == NumOrStringNum {
		return p
	}
	for _, n := range allProtocolNames {
		if strings.EqualFold(n, p.StrVal) {
			return Protocol(Uint8OrString{Type: NumOrStringString, StrVal: n})
		}
	}
	return p
}

func ProtocolFromString(p string) Protocol {
	for _, n := range allProtocolNames {
		if strings.EqualFold(n, p) {
			return Protocol(Uint8OrString{Type: NumOrStringString, StrVal: n})
		}
	}
	return Protocol(Uint8OrString{Type: NumOrStringString, StrVal: p})
}

func ProtocolFromStringV1(p string) Protocol {
	return Protocol(Uint8OrString{Type: NumOrStringString, StrVal: strings.ToLower(p)})
}

func (p *Protocol) UnmarshalJSON(b []byte) error { return (*Uint8OrString)(p).UnmarshalJSON(b) }
func (p Protocol) MarshalJSON() ([]byte, error)  { return Uint8OrString(p).MarshalJSON() }
func (p Protocol) String() string                { return Uint8OrString(p).String() }
func (p Protocol) NumValue() (uint8, error)      { return Uint8OrString(p).NumValue() }

// ToV1 lower-cases a named protocol.
func (p Protocol) ToV1() Protocol {
	if p.Type == NumOrStringNum {
		return p
	}
	return ProtocolFromStringV1(p.StrVal)
}

func (p Protocol) SupportsPorts() bool {
	if n, err := p.NumValue(); err == nil {
		return n == 6 || n == 17 || n == 132
	}
	switch p.StrVal {
	case ProtocolTCP, ProtocolUDP, ProtocolTCPV1, ProtocolUDPV1, ProtocolSCTP, ProtocolSCTPV1:
		return true
	}
	return false
}

// ---- Port ----

type Port struct {
	MinPort  uint16 `json:"minPort,omitempty"`
	MaxPort  uint16 `json:"maxPort,omitempty"`
	PortName string `json:"portName" validate:"omitempty,portName"`
}

func SinglePort(p uint16) Port   { return Port{MinPort: p, MaxPort: p} }
func NamedPort(name string) Port { return Port{PortName: name} }

func PortFromRange(min, max uint16) (Port, error) {
	if min > max {
		return Port{}, fmt.Errorf("minimum port number (%d) is greater than maximum port number (%d) in port range", min, max)
	}
	return Port{MinPort: min, MaxPort: max}, nil
}

var (
	allDigits = regexp.MustCompile(`^\d+$`)
	portRange = regexp.MustCompile(`^(\d+):(\d+)$`)
	nameRegex = regexp.MustCompile("^[a-zA-Z0-9_.-]{1,128}$")
)

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("invalid port: %s", s)
	}
	return uint16(n), nil
}

func PortFromString(s string) (Port, error) {
	if allDigits.MatchString(s) {
		n, err := parsePort(s)
		if err != nil {
			return Port{}, err
		}
		return SinglePort(n), nil
	}
	if m := portRange.FindStringSubmatch(s); m != nil {
		a, err := parsePort(m[1])
		if err != nil {
			return Port{}, err
		}
		b, err := parsePort(m[2])
		if err != nil {
			return Port{}, err
		}
		return PortFromRange(a, b)
	}
	if !nameRegex.MatchString(s) {
		return Port{}, errors.New("invalid name for named port: " + s)
	}
	return NamedPort(s), nil
}

func (p Port) String() string {
	if p.PortName != "" {
		return p.PortName
	}
	if p.MinPort == p.MaxPort {
		return strconv.FormatUint(uint64(p.MinPort), 10)
	}
	return fmt.Sprintf("%d:%d", p.MinPort, p.MaxPort)
}

func (p Port) MarshalJSON() ([]byte, error) {
	if p.PortName == "" && p.MinPort == p.MaxPort {
		return json.Marshal(p.MinPort)
	}
	return json.Marshal(p.String())
}

func (p *Port) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		v, err := PortFromString(s)
		if err != nil {
			return err
		}
		*p = v
		return nil
	}
	var n uint16
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*p = SinglePort(n)
	return nil
}

// ---- ASNumber ----

type ASNumber uint32

func ASNumberFromString(s string) (ASNumber, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return ASNumber(n), nil
	}
	parts := strings.Split(s, ".")
	if len(parts) != 2 {
		return 0, errors.New("invalid AS Number format: " + s)
	}
	a, err1 := strconv.ParseUint(parts[0], 10, 16)
	b, err2 := strconv.ParseUint(parts[1], 10, 16)
	if err1 != nil || err2 != nil {
		return 0, errors.New("invalid AS Number format: " + s)
	}
	return ASNumber(a<<16 + b), nil
}

func (a *ASNumber) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*uint32)(a)); err == nil {
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := ASNumberFromString(s)
	if err == nil {
		*a = v
	}
	return err
}

func (a ASNumber) String() string { return strconv.FormatUint(uint64(a), 10) }
