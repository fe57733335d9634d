// One scenario in ns-3: senders - half of the base delay each way - a bottleneck - one receiver. Arguments come from
// run.py; the result is a line of JSON.
//
// Where ns-3 and the l4sd simulator can be told to do the same thing, this file does so:
//  - The device behind the queue disc holds the packet that it sends and no other, so that a packet's sojourn in the
//    queue disc ends when its transmission begins. As shipped, the device takes one packet or more ahead.
//  - A point-to-point frame is 12 bytes shorter than an Ethernet frame with the same data. The bottleneck's rate is
//    lowered in that proportion (run.py), so that a full packet takes the same time in both.
//  - Only the bottleneck has a rate that matters; acknowledgements queue nowhere.
#include "ns3/applications-module.h"
#include "ns3/core-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"
#include "ns3/point-to-point-module.h"
#include "ns3/traffic-control-module.h"

#include <chrono>
#include <ctime>
#include <iostream>
#include <sstream>

using namespace ns3;

namespace
{

/// What happens to packets of the bottleneck within the measured window.
struct Observed
{
    bool measuring = false;
    double sojournSum = 0; //!< Of forwarded packets, in seconds.
    uint64_t forwarded = 0;
    uint64_t dropped = 0;
    uint64_t marked = 0;

    /// Every packet that leaves the internal queue, those that are dropped then included.
    void Left(Time sojourn)
    {
        if (measuring)
        {
            sojournSum += sojourn.GetSeconds();
            forwarded++;
        }
    }

    void DroppedBefore(Ptr<const QueueDiscItem>, const char*)
    {
        dropped += measuring;
    }

    void DroppedAfter(Ptr<const QueueDiscItem> item, const char*)
    {
        if (measuring)
        {
            sojournSum -= (Simulator::Now() - item->GetTimeStamp()).GetSeconds();
            forwarded--;
            dropped++;
        }
    }

    void Marked(Ptr<const QueueDiscItem>, const char*)
    {
        marked += measuring;
    }
};

/// Has the queue disc asked for a packet when the device has sent one. See main() for why the device does not ask itself.
void
Sent(Ptr<NetDeviceQueue> queue, Ptr<const Packet>)
{
    // Not from within: the device forgets its current packet after this trace.
    Simulator::ScheduleNow(&NetDeviceQueue::Wake, queue);
}

struct Options
{
    std::string cc = "TcpCubic", recovery = "ns3::TcpClassicRecovery", queue = "fifo", rate = "40Mbps", rtts = "0.02";
    std::string ecn = "off";
    uint32_t packets = 100, payload = 1448, acks = 2, period = 0;
    double duration = 60, warmup = 20, jitter = 0.02, threshold = 0.001, probability = 0;
    uint64_t seed = 1;
    bool hystart = true;
};

Options Read(int argc, char* argv[])
{
    Options o;
    CommandLine cmd;
    cmd.AddValue("cc", "Congestion control: a TypeId of ns-3 without ns3::", o.cc);
    cmd.AddValue("recovery", "TypeId of the recovery", o.recovery);
    cmd.AddValue("queue", "fifo, codel, step or signals", o.queue);
    cmd.AddValue("rate", "Rate of the bottleneck", o.rate);
    cmd.AddValue("rtts", "Base round trip of each flow in seconds, with commas", o.rtts);
    cmd.AddValue("ecn", "off, ect0 or ect1", o.ecn);
    cmd.AddValue("packets", "Packets that the queue holds", o.packets);
    cmd.AddValue("payload", "Bytes of data in a packet", o.payload);
    cmd.AddValue("acks", "Packets per acknowledgement", o.acks);
    cmd.AddValue("duration", "Simulated seconds", o.duration);
    cmd.AddValue("warmup", "Seconds that are left out", o.warmup);
    cmd.AddValue("jitter", "Flows start within this many seconds", o.jitter);
    cmd.AddValue("probability", "Share of the packets that queue signals marks or drops", o.probability);
    cmd.AddValue("period", "The same, every n-th packet", o.period);
    cmd.AddValue("threshold", "Step of the marking in seconds", o.threshold);
    cmd.AddValue("seed", "Draws the starts", o.seed);
    cmd.AddValue("hystart", "HyStart of TcpCubic", o.hystart);
    cmd.Parse(argc, argv);
    return o;
}

void Defaults(const Options& o)
{
    Config::SetDefault("ns3::TcpL4Protocol::SocketType", TypeIdValue(TypeId::LookupByName("ns3::" + o.cc)));
    Config::SetDefault("ns3::TcpL4Protocol::RecoveryType", TypeIdValue(TypeId::LookupByName(o.recovery)));
    Config::SetDefault("ns3::TcpSocketBase::UseEcn", StringValue(o.ecn == "off" ? "Off" : "On"));
    Config::SetDefault("ns3::TcpDctcp::UseEct0", BooleanValue(o.ecn == "ect0"));
    Config::SetDefault("ns3::TcpCubic::HyStart", BooleanValue(o.hystart));
    Config::SetDefault("ns3::TcpSocket::SegmentSize", UintegerValue(o.payload));
    Config::SetDefault("ns3::TcpSocket::InitialCwnd", UintegerValue(10));
    Config::SetDefault("ns3::TcpSocket::DelAckCount", UintegerValue(o.acks));
    Config::SetDefault("ns3::TcpSocket::DelAckTimeout", TimeValue(MilliSeconds(40)));
    Config::SetDefault("ns3::TcpSocket::SndBufSize", UintegerValue(3 << 20));
    Config::SetDefault("ns3::TcpSocket::RcvBufSize", UintegerValue(6 << 20));
    Config::SetDefault("ns3::TcpSocketBase::MinRto", TimeValue(MilliSeconds(200)));
    Config::SetDefault("ns3::TcpSocketBase::Sack", BooleanValue(true));
    Config::SetDefault("ns3::TcpSocketBase::Timestamp", BooleanValue(true));
}

Ptr<QueueDisc> Bottleneck(const Options& o, Ptr<NetDevice> device)
{
    QueueSizeValue size(QueueSize(QueueSizeUnit::PACKETS, o.packets));
    TrafficControlHelper tc;
    if (o.queue == "fifo")
    {
        tc.SetRootQueueDisc("ns3::FifoQueueDisc", "MaxSize", size);
    }
    else if (o.queue == "signals")
    {
        tc.SetRootQueueDisc("SignallingQueueDisc", "Probability", DoubleValue(o.probability), "Period",
                            UintegerValue(o.period));
    }
    else
    {
        bool step = o.queue == "step";
        tc.SetRootQueueDisc("ns3::CoDelQueueDisc", "MaxSize", size, "UseEcn", BooleanValue(o.ecn != "off"),
                            "UseL4s", BooleanValue(step), "CeThreshold",
                            TimeValue(step ? Seconds(o.threshold) : Time::Max()));
    }
    return tc.Install(device).Get(0);
}

/// A queue without a limit on a link that is never full. Marks packets, or drops those that cannot be marked, each with
/// the same probability or every n-th.
class SignallingQueueDisc : public QueueDisc
{
  public:
    static TypeId GetTypeId()
    {
        static TypeId tid = TypeId("SignallingQueueDisc")
                                .SetParent<QueueDisc>()
                                .AddConstructor<SignallingQueueDisc>()
                                .AddAttribute("Probability", "Of a signal", DoubleValue(0),
                                              MakeDoubleAccessor(&SignallingQueueDisc::m_probability),
                                              MakeDoubleChecker<double>(0, 1))
                                .AddAttribute("Period", "Packets per signal; 0: by probability", UintegerValue(0),
                                              MakeUintegerAccessor(&SignallingQueueDisc::m_period),
                                              MakeUintegerChecker<uint32_t>());
        return tid;
    }

  private:
    bool DoEnqueue(Ptr<QueueDiscItem> item) override
    {
        // Not a handshake: a connection is to begin.
        bool data = item->GetSize() > 500;
        bool signal = data && (m_period ? ++m_count % m_period == 0 : m_draw->GetValue() < m_probability);
        if (signal && !Mark(item, "signal"))
        {
            DropBeforeEnqueue(item, "signal");
            return false;
        }
        return GetInternalQueue(0)->Enqueue(item);
    }

    Ptr<QueueDiscItem> DoDequeue() override
    {
        return GetInternalQueue(0)->Dequeue();
    }

    bool CheckConfig() override
    {
        AddInternalQueue(CreateObjectWithAttributes<DropTailQueue<QueueDiscItem>>("MaxSize", StringValue("1000000p")));
        return true;
    }

    void InitializeParams() override
    {
        m_draw = CreateObject<UniformRandomVariable>();
        m_draw->SetStream(2);
    }

    double m_probability;
    uint32_t m_period, m_count = 0;
    Ptr<UniformRandomVariable> m_draw;
};

double CpuSeconds()
{
    return double(std::clock()) / CLOCKS_PER_SEC;
}

NS_OBJECT_ENSURE_REGISTERED(SignallingQueueDisc);

} // namespace

int main(int argc, char* argv[])
{
    Options o = Read(argc, argv);
    RngSeedManager::SetSeed(1);
    RngSeedManager::SetRun(o.seed);
    Defaults(o);
    std::vector<double> rtts;
    std::istringstream list(o.rtts);
    for (std::string item; std::getline(list, item, ',');)
    {
        rtts.push_back(std::stod(item));
    }

    NodeContainer senders, router, receiver;
    senders.Create(rtts.size());
    router.Create(1);
    receiver.Create(1);
    InternetStackHelper().Install(NodeContainer(senders, router, receiver));

    PointToPointHelper link;
    link.SetDeviceAttribute("DataRate", StringValue("100Gbps"));
    // The device stops its queue when a packet of its MTU would find no room, here always: so it takes one packet, sends
    // it, and takes no other until the end of that wakes it.
    link.SetQueue("ns3::DropTailQueue", "MaxSize", StringValue("2000B"));
    NetDeviceContainer pair = link.Install(router.Get(0), receiver.Get(0));
    pair.Get(0)->SetMtu(9000);
    pair.Get(0)->SetAttribute("DataRate", StringValue(o.rate));
    Ptr<QueueDisc> disc = Bottleneck(o, pair.Get(0));
    Ipv4AddressHelper addresses("10.0.0.0", "255.255.255.0");
    Ipv4Address sink = addresses.Assign(pair).GetAddress(1);

    Observed observed;
    disc->TraceConnectWithoutContext("SojournTime", MakeCallback(&Observed::Left, &observed));
    disc->TraceConnectWithoutContext("DropBeforeEnqueue", MakeCallback(&Observed::DroppedBefore, &observed));
    disc->TraceConnectWithoutContext("DropAfterDequeue", MakeCallback(&Observed::DroppedAfter, &observed));
    disc->TraceConnectWithoutContext("Mark", MakeCallback(&Observed::Marked, &observed));
    auto taken = pair.Get(0)->GetObject<NetDeviceQueueInterface>()->GetTxQueue(0);
    pair.Get(0)->TraceConnectWithoutContext("PhyTxEnd", MakeBoundCallback(&Sent, taken));
    // Acknowledgements leave the receiver without a queue disc.
    TrafficControlHelper none;
    none.Uninstall(pair.Get(1));

    link.SetQueue("ns3::DropTailQueue", "MaxSize", StringValue("100000p"));
    auto start = CreateObject<UniformRandomVariable>();
    start->SetStream(1);
    ApplicationContainer sinks;
    for (uint32_t i = 0; i < rtts.size(); i++)
    {
        link.SetChannelAttribute("Delay", TimeValue(Seconds(rtts[i] / 2)));
        NetDeviceContainer access = link.Install(senders.Get(i), router.Get(0));
        addresses.NewNetwork();
        addresses.Assign(access);
        none.Uninstall(access);
        PacketSinkHelper packetSink("ns3::TcpSocketFactory", InetSocketAddress(Ipv4Address::GetAny(), 5000 + i));
        sinks.Add(packetSink.Install(receiver.Get(0)));
        BulkSendHelper bulk("ns3::TcpSocketFactory", InetSocketAddress(sink, 5000 + i));
        bulk.SetAttribute("SendSize", UintegerValue(o.payload));
        bulk.Install(senders.Get(i)).Start(Seconds(start->GetValue(0, std::max(o.jitter, rtts[i]))));
    }
    Ipv4GlobalRoutingHelper::PopulateRoutingTables();

    std::vector<uint64_t> before(rtts.size());
    Simulator::Schedule(Seconds(o.warmup), [&] {
        observed.measuring = true;
        for (uint32_t i = 0; i < rtts.size(); i++)
        {
            before[i] = DynamicCast<PacketSink>(sinks.Get(i))->GetTotalRx();
        }
    });
    Simulator::Stop(Seconds(o.duration));
    auto wallStart = std::chrono::steady_clock::now();
    double cpuStart = CpuSeconds();
    Simulator::Run();
    double cpu = CpuSeconds() - cpuStart;
    double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - wallStart).count();

    std::cout << "{\"mbps\":[";
    for (uint32_t i = 0; i < rtts.size(); i++)
    {
        uint64_t bytes = DynamicCast<PacketSink>(sinks.Get(i))->GetTotalRx() - before[i];
        std::cout << (i ? "," : "") << bytes * 8 / (o.duration - o.warmup) / 1e6;
    }
    std::cout << "],\"delay_ms\":" << observed.sojournSum * 1e3 / std::max<uint64_t>(observed.forwarded, 1)
              << ",\"forwarded\":" << observed.forwarded << ",\"dropped\":" << observed.dropped
              << ",\"marked\":" << observed.marked << ",\"wall\":" << wall << ",\"cpu\":" << cpu << "}\n";
    Simulator::Destroy();
}
