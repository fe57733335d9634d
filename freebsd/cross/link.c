/* Constants of bindings/host/src/link.rs against FreeBSD's headers. */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/ioctl.h>
#include <sys/sockio.h>
#include <net/if.h>
#include <net/if_media.h>
#include <stddef.h>

_Static_assert(SIOCGIFFLAGS == 0xc0206911, "SIOCGIFFLAGS");
_Static_assert(SIOCSIFFLAGS == 0x80206910, "SIOCSIFFLAGS");
_Static_assert(SIOCGIFMTU == 0xc0206933, "SIOCGIFMTU");
_Static_assert(SIOCGIFCAP == 0xc020691f, "SIOCGIFCAP");
_Static_assert(SIOCGIFMEDIA == 0xc0306938, "SIOCGIFMEDIA");
_Static_assert(sizeof(struct ifreq) == 32 && sizeof(struct ifmediareq) == 48, "sizes");
_Static_assert(offsetof(struct ifmediareq, ifm_status) == 24 && offsetof(struct ifmediareq, ifm_ulist) == 40, "ifmediareq");
_Static_assert(offsetof(struct ifreq, ifr_curcap) == 20 && offsetof(struct ifreq, ifr_flagshigh) == 18, "ifreq");
_Static_assert(IFF_PPROMISC >> 16 == 2 && IFF_UP == 1, "flags");
_Static_assert(IFM_AVALID == 1 && IFM_ACTIVE == 2, "media");
_Static_assert(IFCAP_RXCSUM == 0x1 && IFCAP_TXCSUM == 0x2 && IFCAP_VLAN_HWTAGGING == 0x10, "capabilities");
_Static_assert(IFCAP_TSO4 == 0x100 && IFCAP_TSO6 == 0x200 && IFCAP_LRO == 0x400, "capabilities");
_Static_assert(IFCAP_VLAN_HWTSO == 0x40000 && IFCAP_RXCSUM_IPV6 == 0x200000 && IFCAP_TXCSUM_IPV6 == 0x400000, "capabilities");
