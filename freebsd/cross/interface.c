/*
 * The numbers that bindings/host/src/link.rs writes by hand for FreeBSD, against FreeBSD's headers: compiled by build.sh,
 * never run.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/sockio.h>
#include <net/if.h>
#include <net/if_media.h>

#define SAME(name, value) _Static_assert((name) == (value), #name)

SAME(sizeof(struct ifreq), 32);
SAME(SIOCGIFFLAGS, 0xc0206911);
SAME(SIOCSIFFLAGS, 0x80206910);
SAME(SIOCGIFMTU, 0xc0206933);
SAME(SIOCGIFMEDIA, 0xc0306938);
SAME(SIOCGIFCAP, 0xc020691f);
SAME(IFCAP_RXCSUM, 0x1);
SAME(IFCAP_TXCSUM, 0x2);
SAME(IFCAP_VLAN_HWTAGGING, 0x10);
SAME(IFCAP_TSO, 0x300);
SAME(IFCAP_LRO, 0x400);
SAME(IFCAP_VLAN_HWTSO, 0x40000);
SAME(IFCAP_RXCSUM_IPV6, 0x200000);
SAME(IFCAP_TXCSUM_IPV6, 0x400000);
SAME(IFF_PPROMISC >> 16, 0x0002);
