#!/usr/bin/perl
# drift.pl COMMAND...: do the clocks of a box drift from the host's? At most 100 ms in 10 minutes is right.
#
# The command answers each byte of input with a line: its clocks, in seconds. When it read them is only known to be
# between question and answer, so each clock's difference from the host's is known to be between two bounds; many
# questions in a second bring these close together. Ten seconds later the same again. Where the bounds do not
# tell yet, more time does: so a busy host makes this slow and not wrong.
use strict;
use warnings;
use IPC::Open2;
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

use constant {
	MAX_RATE => 0.1 / 600,
	WINDOW_S => 1,
	FIRST_S => 10,
	LAST_S => 90,
};

my ($answers, $questions);
my $pid = open2($answers, $questions, @ARGV);

# Bounds of each clock's difference, and when in the middle they were.
sub compare {
	my (@low, @high);
	my $start = clock_gettime(CLOCK_MONOTONIC);
	my $after;

	do {
		my $before = clock_gettime(CLOCK_MONOTONIC);
		syswrite($questions, "?") or die "question: $!\n";
		defined(my $line = readline $answers) or die "no answer\n";
		$after = clock_gettime(CLOCK_MONOTONIC);
		my @clocks = split ' ', $line;
		for my $i (0 .. $#clocks) {
			my ($l, $h) = ($clocks[$i] - $after, $clocks[$i] - $before);
			$low[$i] = $l if !defined $low[$i] || $l > $low[$i];
			$high[$i] = $h if !defined $high[$i] || $h < $high[$i];
		}
		sleep 0.005;
	} while ($after < $start + WINDOW_S);
	return (($start + $after) / 2, \@low, \@high);
}

compare(); # starts everything up
my ($start, $low, $high) = compare();
my $verdict = "unknown";
for (my $wait = FIRST_S; $verdict eq "unknown" && $wait <= LAST_S; $wait += 10) {
	sleep 0.01 while clock_gettime(CLOCK_MONOTONIC) < $start + $wait;
	my ($end, $new_low, $new_high) = compare();
	my $allowed = MAX_RATE * ($end - $start);
	my $sure = 0;

	for my $i (0 .. $#$low) {
		my $least = $new_low->[$i] - $high->[$i];
		my $most = $new_high->[$i] - $low->[$i];

		printf "# clock %d: %.3f to %.3f ms apart after %.1f s; %.3f allowed\n", $i, 1e3 * $least,
			1e3 * $most, $end - $start, 1e3 * $allowed;
		$verdict = "drift" if $least > $allowed || $most < -$allowed;
		$sure++ if $least >= -$allowed && $most <= $allowed;
	}
	$verdict = "right" if $verdict eq "unknown" && $sure == @$low;
}
close $questions;
waitpid $pid, 0;
print "# $verdict, exit status ", $? >> 8, "\n";
exit !($verdict eq "right" && $? == 0);
