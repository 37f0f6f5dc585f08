/** Owns the kinds of NAT in the box, as nftables rules of a home's router. */

/**
 * `open`: a public address, no NAT. `cone`: one mapping for all destinations, the port kept, so that others may be told of it;
 * only those who were sent to may send in (RFC 4787: endpoint-independent mapping, address and port-dependent filtering).
 * `symmetric`: another random port for each destination. `blocked`: no UDP at all, as many offices have it.
 */
export const NATS = ['open', 'cone', 'symmetric', 'blocked'] as const
export type Nat = (typeof NATS)[number]

/** `wan`: the device that leads out. */
export function natRules(nat: Exclude<Nat, 'open'>, wan: string): string {
  const masquerade = nat === 'symmetric' ? 'masquerade fully-random' : 'masquerade'
  const udp = nat === 'blocked' ? 'meta l4proto udp drop' : ''
  return `
    table ip nat {
      chain out { type nat hook postrouting priority srcnat; oifname "${wan}" ${masquerade}; }
    }
    table inet filter {
      chain forward {
        type filter hook forward priority filter;
        ${udp}
        iifname "${wan}" ct state established,related accept
        iifname "${wan}" drop
      }
      # Dropped and not refused: an entry for a packet that came too early would take the port that a mapping is to keep.
      chain input {
        type filter hook input priority filter;
        iifname "${wan}" ct state established,related accept
        iifname "${wan}" meta l4proto icmpv6 accept
        iifname "${wan}" drop
      }
    }
  `
}

/** What a router drops besides; a second set of rules takes the place of the first, yet remembers the ports. */
export function partRules(address: string, from: 'everybody' | 'who tried'): string {
  const rule = from === 'everybody' ? 'add @tried { udp sport } drop' : 'udp sport @tried drop'
  return `
    table inet parted {
      set tried { type inet_service; flags dynamic; size 4096; }
      chain forward { type filter hook forward priority filter - 1; }
    }
    flush chain inet parted forward
    add rule inet parted forward ip daddr ${address} meta l4proto udp ${rule}
  `
}
