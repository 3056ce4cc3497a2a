package event

//go:generate go run ../../packaging/gen/catalog ../../packaging/root/usr/lib/systemd/catalog/tcpmemd.catalog

var catalogue = []Kind{
	{
		ID: RuleFiring, MessageID: "15eec3b4bdd34e59ad0062b97f262c91", Severity: Warning, Lasts: true, EndedBy: RuleEnded,
		Title: "a rule fires",
		Means: "The condition of a rule of tcpmemd-policy(5) has held for as long as the rule asks. The entry says how full the host's TCP memory is, against which limit, who holds how much of it, since when, and what is or would be done. There is one such entry for each incident, and one with its end.",
		Do:    "look at who holds the memory: tcpmemctl incidents show INCIDENT",
	},
	{
		ID: RuleEnded, MessageID: "d49787eb98ee4b55b860d7cd7648a807", Severity: Info,
		Title: "what a rule fired for is over",
		Means: "The incident @TCPMEMD_INCIDENT@ of the rule @TCPMEMD_RULE@ is over. The entry says how long it lasted, what was done, and whether that helped.",
	},
	{
		ID: ActionIntent, MessageID: "b868cb017c5b42abbe8b44f18af7c985", Severity: Notice,
		Title: "an action is about to start",
		Means: "The rule @TCPMEMD_RULE@ enforces, and nothing stands against its step: it is about to be taken. This is recorded durably before anything is touched.",
		Do:    "to stop all actions: tcpmemctl pause 1h --why TEXT",
	},
	{
		ID: ActionResult, MessageID: "84248592c4f8446fbbc4eae376cfeb88", Severity: Warning,
		Title: "what an action answered",
		Means: "The answer of an action that was started, or why it was not started after all: everything is checked once more right before. Whether it helped is measured next.",
		Do:    "tcpmemctl explain ACTION",
	},
	{
		ID: ActionEffect, MessageID: "b6a2e585ee734c6687dba02a8a2bb66b", Severity: Notice,
		Title: "what an action brought, as measured",
		Means: "A full reading after the action was compared with one before: helped, no-effect, worse, or not-measured. It is tcpmemd's own measurement, not the action's word.",
		Do:    "where it did not help, look at the runners-up: tcpmemctl explain ACTION",
	},
	{
		ID: WouldAct, MessageID: "2062450744f44a28adc44c65fb4bd437", Severity: Info,
		Title: "an action would have been taken in another mode",
		Means: "A step was due and nothing stood against it, but the daemon or the rule observes. Nothing was touched.",
		Do:    `if that is right, set mode = "enforce" for the rule and for the daemon`,
	},
	{
		ID: Refused, MessageID: "febae181925b451ca862c6500f1ad22b", Severity: Warning,
		Title: "a guard refused an action",
		Means: "A step was due, and the guard @TCPMEMD_GUARD@ said no: nothing was touched. Guards are conditions that no policy can switch off, such as a protected unit, weak evidence, or a reading that explains too little.",
		Do:    "read which one, and by which numbers: tcpmemctl explain RECORD",
	},
	{
		ID: Held, MessageID: "b1b6eadd19eb4cd2a892bdb80aa8e90a", Severity: Warning,
		Title: "a budget is spent",
		Means: "A step was due, and its budget is spent: it goes on by itself when there is budget again.",
		Do:    "what was done did not last: find the cause; tcpmemctl reset RULE frees the budget now",
	},
	{
		ID: Waiting, MessageID: "1e1a82949ba040b781d3fb5b7ce2db0d", Severity: Debug,
		Title: "a step waits for another action or a time",
		Means: "A step is due, and something that passes stands against it: another action, the time after a start, a full reading.",
	},
	{
		ID: Exhausted, MessageID: "192319ebffa646d78eb7ac15cf89ad0f", Severity: Critical,
		Title: "every step of a rule was taken, and it still fires",
		Means: "Whatever the rule may do was done, and its condition still holds.",
		Do:    "a person has to act: tcpmemctl owners shows who holds the memory",
	},
	{
		ID: Undelivered, MessageID: "04945f72f727411597b7196666d1dbe7", Severity: Warning,
		Title: "an alert could not be delivered",
		Means: "A command or a webhook of a rule's notify step was not reached for a day, or too many alerts wait for it.",
		Do:    "look at the receiver of the alerts; the action log has what was to be told",
	},

	{
		ID: DaemonStarted, MessageID: "bbdabefc9bc24401b00c53af2ab2ef62", Severity: Info,
		Title: "tcpmemd started",
		Means: "It watches from here on. What it may do follows from its mode and the rules.",
	},
	{
		ID: DaemonStopped, MessageID: "f6a0db1074914d9386dce604b1ab3ec7", Severity: Info,
		Title: "tcpmemd stopped",
		Means: "Nobody watches from here on. A raise of net.ipv4.tcp_mem that was lent is given back before.",
	},
	{
		ID: Paused, MessageID: "d80c691ca0c7404eb89d9ed7a1a188e0", Severity: Warning, Lasts: true, EndedBy: Resumed,
		Title: "touching is paused",
		Means: "Somebody ran tcpmemctl pause. What would be done is decided and recorded, and nothing is touched.",
		Do:    "tcpmemctl resume ends it",
	},
	{
		ID: Resumed, MessageID: "d9dad97703a245b1a0d7f52abe69047f", Severity: Info,
		Title: "the pause is over",
		Means: "Rules that enforce act again.",
	},
	{
		ID: Stopped, MessageID: "18d83059f17c499fa7300fc55c77f1f5", Severity: Warning, Lasts: true,
		Title: "everything is stopped",
		Means: "A pause without an end is in force: nothing is touched, not even by hand.",
		Do:    "remove /run/tcpmemd/pause, or tcpmemd.observe from the kernel's command line",
	},
	{
		ID: WasReset, MessageID: "166ef2e680424ea89e54d1c6ed23e98d", Severity: Info,
		Title: "a rule starts anew, by hand",
		Means: "Somebody ran tcpmemctl reset: the cooldowns of the rule and what it has spent are forgotten.",
	},
	{
		ID: Reloaded, MessageID: "139e9d5073f34a97a4a1b20a5acadf30", Severity: Info,
		Title: "configuration and policy were read again",
		Means: "They are in force from here on. Rules that did not change go on where they were.",
	},
	{
		ID: ReloadFailed, MessageID: "5952726a647747aab5823202f805a5a6", Severity: Warning,
		Title: "the new configuration is wrong, the old one stays",
		Means: "A file has a mistake. What was in force stays in force, until a restart.",
		Do:    "tcpmemctl policy check names the place",
	},
	{
		ID: LeaseTaken, MessageID: "0f2e8c867cda480bb2a6d0952dd09f2f", Severity: Warning, Lasts: true, EndedBy: LeaseEnded,
		Title: "net.ipv4.tcp_mem is raised for a time",
		Means: "Honest load filled the memory, and a rule may raise the limit. It is a loan: it ends by itself, and never outlives the daemon.",
		Do:    "if the load is there to stay, make it permanent with the sysctl.d line in the result",
	},
	{
		ID: LeaseExtended, MessageID: "842d94267c3b4cc7bcd5201fed1a1c4d", Severity: Warning,
		Title: "net.ipv4.tcp_mem stays raised: the memory is still in use",
		Means: "The loan is due, and what is in use would not fit under the old limit.",
		Do:    "find out who needs it: tcpmemctl owners",
	},
	{
		ID: LeaseAdopted, MessageID: "26a8926ab5484cccb001ce44ec32fdf4", Severity: Info,
		Title: "a raise by an earlier run goes on",
		Means: "The daemon was restarted in the same boot: the loan is its own, and ends as it would have.",
	},
	{
		ID: LeaseEnded, MessageID: "fd1529a467e14970afc51cb876181206", Severity: Info,
		Title: "net.ipv4.tcp_mem is as it was before the raise",
		Means: "The loan is over: it was given back, or is void.",
	},
	{
		ID: LeaseRival, MessageID: "9ea2959829ef4db29b94cc3a33307ea9", Severity: Warning,
		Title: "somebody else set net.ipv4.tcp_mem while it was raised",
		Means: "The value is neither the lent one nor the one before: the loan is over, and nothing is set back.",
		Do:    "let one program set it: look for sysctl.d files and tuning daemons",
	},
	{
		ID: LeaseStuck, MessageID: "53f86e436f1b42e7854e1563d963b3f4", Severity: Critical, Lasts: true, EndedBy: LeaseEnded,
		Title: "net.ipv4.tcp_mem could not be given back",
		Means: "The raise outlives its time. It is tried again and again.",
		Do:    "set it by hand to the triple in the message: sysctl -w net.ipv4.tcp_mem='MIN PRESSURE MAX'",
	},
	{
		ID: LevelChanged, MessageID: "5945f48f73254f6f9cba3d289bba1d96", Severity: Info,
		Title: "the host's level changed",
		Means: "The level is what the host is without any rule: calm, elevated, pressure, critical, or unknown; tcpmemd(8) says where each begins.",
	},
	{
		ID: TCPMemChanged, MessageID: "d5c15d830a454ff1ab2581df56dd1add", Severity: Warning,
		Title: "somebody else set net.ipv4.tcp_mem",
		Means: "The limits that everything is judged by were changed by another program or person.",
		Do:    "check that it was meant: sysctl net.ipv4.tcp_mem",
	},
	{
		ID: Gap, MessageID: "bdf521f2b8694c1682787042f91205e8", Severity: Warning,
		Title: "readings were missing: pending rules start anew",
		Means: "The host was suspended, the daemon was stopped, or a scan took too long.",
		Do:    "after a suspend nothing; else look at the load of the host and the CPU budget of the daemon",
	},
	{
		ID: Repaired, MessageID: "0d32eca666104a60bed76b08339ff51d", Severity: Warning,
		Title: "an action of an earlier run had no result, it counts as interrupted",
		Means: "The daemon was killed, or the host went down, between the intent of an action and its result. The action is not repeated, and counts against its budgets.",
		Do:    "tcpmemctl explain ACTION says what was under way",
	},

	{
		ID: BlindCoverage, MessageID: "399b30e4452f423e862ffeb85ea4330b", Severity: Warning, Lasts: true,
		Title: "much of the memory has no name, under pressure",
		Means: "Less of the memory than min_coverage has a known owner while it is short: nothing that touches an owner is done.",
		Do:    "tcpmemctl doctor says what keeps owners from being seen",
	},
	{
		ID: BlindNetns, MessageID: "26155cc4d91f47b9bbd2184df5f2a2c4", Severity: Warning, Lasts: true,
		Title: "a network namespace cannot be read",
		Means: "Sockets in it are counted by the kernel and not seen: their owners are missing.",
		Do:    "give the daemon CAP_SYS_ADMIN: tcpmemctl doctor",
	},
	{
		ID: BlindKernelLog, MessageID: "f4527f7b07e44378b1e42ac0f43caab3", Severity: Warning,
		Title: "records of the kernel log were lost",
		Means: "More was logged than could be read. It only corroborates: the kernel's counters decide.",
		Do:    "find out what floods the log: dmesg; counters go on without it",
	},
	{
		ID: BlindBus, MessageID: "01c0d28115ce4119a80a3e5dfdd812e5", Severity: Warning, Lasts: true,
		Title: "PID 1 does not answer: no unit can be a target",
		Means: "Units are known by their control groups alone, which is good enough to tell and not to act on.",
		Do:    "look at dbus and systemd: busctl status",
	},
	{
		ID: BlindSample, MessageID: "dcb47d9d3f82457890a1d176718850f4", Severity: Critical, Lasts: true,
		Title: "the counters cannot be read",
		Means: "Without counters there is no level, and no rule can fire.",
		Do:    "read the daemon's log: journalctl -u tcpmemd",
	},
	{
		ID: LogUnwritable, MessageID: "38fb47c8647142a4afb80b7dfd9aeeca", Severity: Critical, Lasts: true,
		Title: "the action log cannot be written: nothing is touched",
		Means: "What cannot be recorded first is not done.",
		Do:    "make room on, or mend, the disk of /var/lib/tcpmemd",
	},
	{
		ID: BudgetsLost, MessageID: "1964a3531a234d539386dba8869e5872", Severity: Warning, Lasts: true,
		Title: "what was spent from budgets is lost: they count as spent",
		Means: "The file that keeps them was broken. Nothing is touched until they would have come back.",
		Do:    "it ends by itself; tcpmemctl reset RULE ends it now",
	},
	{
		ID: RightsMissing, MessageID: "d0576d22deab4922afb3c8af7a71a93a", Severity: Warning, Lasts: true,
		Title: "an enforcing rule lacks rights and observes",
		Means: "The service's sandbox, or the kernel, does not let an action work. The rules that need it decide and tell, and do not act.",
		Do:    "install the drop-in that the message names, and restart tcpmemd",
	},
	{
		ID: PolicyBroken, MessageID: "9591b206794d4bdda3f2df4004c5086b", Severity: Critical, Lasts: true,
		Title: "a file of the configuration is wrong and left out: everything observes",
		Means: "The file was left out as a whole, and the daemon started on the rest, observing.",
		Do:    "tcpmemctl policy check names the place; then tcpmemctl reload --wait",
	},
	{
		ID: PluginBroken, MessageID: "7c5eb9b9b5844b1dbde51dde06ce5900", Severity: Warning, Lasts: true,
		Title: "a plugin must not or cannot run",
		Means: "The program of an action failed its checks, or its description cannot be had.",
		Do:    "tcpmemctl plugins verify says why",
	},
	{
		ID: JournalLate, MessageID: "98dc8ae1ee0d4f7a98551ab29a1345fb", Severity: Warning,
		Title: "entries are late: the journal took none for a time",
		Means: "The journal was stuck or away. What was to be told meanwhile follows with the time it was about in TCPMEMD_TIME; what had no room is lost here, and is in the action log. Nothing that was done waited for it.",
		Do:    "look at what keeps it: systemctl status systemd-journald; for what is lost: tcpmemctl actions --all",
	},
	{
		ID: MetricsUnavailable, MessageID: "f3684a46470a71aef49f30babd4008ee", Severity: Warning, Lasts: true,
		Title: "metrics do not get out",
		Means: "An address of metrics.listen, or the file of metrics.textfile, does not work. It is tried again until it does. Nothing else waits for it: tcpmemd watches, tells and acts as before.",
		Do:    "tcpmemctl doctor says what would mend it",
	},
}
