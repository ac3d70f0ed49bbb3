(* The headline theorems, each in the words of model/ alone: this file and that folder are what there is to trust. The
   proofs are in the other folders. *)
From Membptt Require Import Laws Policies Recurrences.
From Membptt Require Hsm Ism Shared CostTwo Closed Price Corollaries MsmPlus TwoBranches Lines Chen BelowTwo Rational
  Stretches Solved.
From Membptt Require Online Restart RestartCost Anypol Best Deferred DeferredBest Real LateReal All.
From Membptt Require Tiers Value Exact FreeSlow Merge OneMachine.

(* ---------------------------------------------------------------- what the statements say *)

(* c is the least cost: some complete schedule of t steps in m slots costs c, and no legal one costs less *)
Definition optimum pol m t c :=
  (exists l, complete pol m t l = true /\ cost l = c) /\ (forall l, legal pol m t l = true -> c <= cost l).
(* the same where a forward costs a, one that is recorded b, and a step backward c *)
Definition price a b c l := a * (cost l - recorded l) + b * recorded l + c * backpropagated l.
(* k is the least price *)
Definition optimum_at a b c pol m t k :=
  (exists l, complete pol m t l = true /\ price a b c l = k) /\
  (forall l, legal pol m t l = true -> k <= price a b c l).
(* some legal schedule of t steps in m slots takes at most c forwards *)
Definition done_in pol m t c := exists l, legal pol m t l = true /\ cost l <= c.
(* m is the fewest slots for that *)
Definition fewest_slots pol t c m := 1 <= m /\ done_in pol m t c /\ (forall n, 1 <= n -> done_in pol n t c -> m <= n).

(* ---------------------------------------------------------------- the machine *)

(* the program and the rules of the machine agree *)
Theorem exec_is_step : forall pol hi s a s1, exec pol hi s a = Some s1 <-> step pol hi s a s1.
Proof. split; [apply exec_step | apply step_exec]. Qed.

(* every legal schedule records every step at least once, and takes each backward exactly once *)
Theorem each_step_recorded : forall pol m t l, legal pol m t l = true -> t <= recorded l.
Proof. exact Price.each_step_recorded. Qed.
(* the other half *)
Theorem each_step_backward : forall pol m t l, legal pol m t l = true -> backpropagated l = t.
Proof. exact Price.each_step_backward. Qed.

(* ---------------------------------------------------------------- the recurrences are the optimum *)

(* HSM: hidden states in m slots *)
Theorem hsm_exact : forall t m, 1 <= m -> optimum HSM m t (hsm t m).
Proof. exact Hsm.hsm_exact. Qed.

(* ISM: internal states in m - 1 slots *)
Theorem ism_exact : forall t m, 1 <= m -> optimum ISM (m - 1) t (ism t m).
Proof. exact Ism.ism_exact. Qed.

(* MSM+: hidden and internal states, kept apart *)
Theorem msm_plus_exact : forall alpha, 2 <= alpha -> forall t m, 1 <= m ->
  optimum (SEPARATE alpha) m t (msm_plus alpha t m).
Proof. exact MsmPlus.msm_plus_exact. Qed.

(* R of MSM+: among the schedules that never drop the start *)
Theorem msm_plus_kept_exact : forall alpha, 2 <= alpha -> forall t m, 1 <= m ->
  (exists l, legal (SEPARATE alpha) m t l = true /\ ~ In (DropHidden 0) l /\ cost l = msm_plus_kept alpha t m) /\
  (forall l, legal (SEPARATE alpha) m t l = true -> ~ In (DropHidden 0) l -> msm_plus_kept alpha t m <= cost l).
Proof. exact MsmPlus.msm_plus_kept_exact. Qed.

(* (10) with beta = alpha - 1, every tensor counted once *)
Theorem shared_exact : forall alpha, 2 <= alpha -> forall t m, 1 <= m ->
  (exists l, legal (SHARED alpha) m t l = true /\ cost l = shared alpha t m) /\
  (forall l, legal (SHARED alpha) m t l = true -> shared alpha t m <= cost l).
Proof. exact Shared.shared_exact. Qed.

(* the same as machine.py charges shared tensors *)
Theorem charged_exact : forall alpha, 2 <= alpha -> forall t m, 1 <= m ->
  optimum (CHARGED alpha) m t (shared alpha t m).
Proof. exact Shared.charged_exact. Qed.

(* ISM with as many slots as the recurrence says is not optimal: its working core goes to waste *)
Theorem ism_as_printed_is_beaten : exists l, complete ISM 1 2 l = true /\ cost l < ism 2 1.
Proof. exact Corollaries.ism_as_printed_beaten. Qed.

(* the simple form of MSM+, P and R, is the product's *)
Theorem two_branches : forall alpha, 2 <= alpha -> forall keep t m, 1 <= m ->
  two alpha keep t m = separate alpha keep t m.
Proof. intros alpha H. exact (@TwoBranches.two_branches (Size.Build_Size alpha H)). Qed.

(* (10) is never worse than HSM *)
Theorem shared_le_hsm : forall alpha, 2 <= alpha -> forall t m, 1 <= m -> shared alpha t m <= hsm t m.
Proof. intros. apply Corollaries.shared_le_hsm; auto. Qed.

(* ---------------------------------------------------------------- whatever a recorded forward costs *)

(* C(t, m) forwards, t of them recorded, are optimal at all prices where recording is no cheaper than not *)
Lemma with_backward : forall a b c pol m t k, ((exists l, complete pol m t l = true /\ Price.price a b l = k) /\
  (forall l, legal pol m t l = true -> k <= Price.price a b l)) -> optimum_at a b c pol m t (k + c * t).
Proof.
  intros a b c pol m t k ((l & A & B) & D). split.
  - exists l. split; auto. unfold price. rewrite (each_step_backward pol m t l) by (apply complete_legal; auto).
    rewrite <- B. reflexivity.
  - intros s H. unfold price. rewrite (each_step_backward pol m t s H). pose proof (D s H) as Q.
    unfold Price.price in Q. lia.
Qed.
(* HSM *)
Theorem hsm_any_price : forall a b c t m, a <= b -> 1 <= m ->
  optimum_at a b c HSM m t (a * (hsm t m - t) + b * t + c * t).
Proof. intros. apply with_backward, Price.hsm_any_price; auto. Qed.
(* ISM *)
Theorem ism_any_price : forall a b c t m, a <= b -> 1 <= m -> optimum_at a b c ISM (m - 1) t (a * (ism t m - t) + b * t
  + c * t).
Proof. intros. apply with_backward, Price.ism_any_price; auto. Qed.
(* MSM+ *)
Theorem msm_plus_any_price : forall alpha, 2 <= alpha -> forall a b c t m, a <= b -> 1 <= m ->
  optimum_at a b c (SEPARATE alpha) m t (a * (msm_plus alpha t m - t) + b * t + c * t).
Proof. intros. apply with_backward, MsmPlus.msm_plus_any_price; auto. Qed.
(* (10), as machine.py charges *)
Theorem charged_any_price : forall alpha, 2 <= alpha -> forall a b c t m, a <= b -> 1 <= m ->
  optimum_at a b c (CHARGED alpha) m t (a * (shared alpha t m - t) + b * t + c * t).
Proof.
  intros alpha H a b c t m Hab Hm. apply with_backward.
  destruct (Price.charged_any_price alpha a b t m H Hab Hm) as (A & B). split; [exact A|].
  intros l L. apply B. apply looser_legal with (CHARGED alpha); [apply Shared.charged_looser; auto | exact L].
Qed.

(* ---------------------------------------------------------------- closed forms; bin n k is the binomial coefficient *)

(* HSM *)
Theorem hsm_closed_form : forall t m r, 1 <= m -> Closed.bin (m + r - 1) m <= t <= Closed.bin (m + r) m ->
  hsm t m = (r + 1) * t - Closed.bin (m + r) (m + 1).
Proof. exact Closed.hsm_closed_form. Qed.
(* ISM *)
Theorem ism_closed_form : forall t m r, 1 <= m -> Closed.bin (m + r - 1) m <= t + 1 <= Closed.bin (m + r) m ->
  ism t m = r * (t + 1) - Closed.bin (m + r) (m + 1).
Proof. exact Closed.ism_closed_form. Qed.
(* both are convex in t *)
Theorem hsm_convex : forall t m, 1 <= m -> 2 * hsm (t + 1) m <= hsm t m + hsm (t + 2) m.
Proof. exact Closed.hsm_convex. Qed.
(* ISM *)
Theorem ism_convex : forall t m, 1 <= m -> 2 * ism (t + 1) m <= ism t m + ism (t + 2) m.
Proof. exact Closed.ism_convex. Qed.
(* ISM of t steps is HSM of t + 1, less t + 1 *)
Theorem duality : forall t m, 1 <= m -> ism t m + (t + 1) = hsm (t + 1) m.
Proof. intros. apply Closed.duality. auto. Qed.

(* ---------------------------------------------------------------- what a given cost needs, whatever the schedule *)

(* at two forwards a step: t <= S(m + 1) + 1, where S(n) = ceil(1 / alpha) + ... + ceil(n / alpha) *)
Theorem any_cost_two : forall alpha, 2 <= alpha -> forall t m, 1 <= m ->
  (done_in (SEPARATE alpha) m t (2 * t) <-> t <= Chen.ceilings alpha (m + 1) + 1).
Proof. intros alpha H. exact (@Chen.any_cost_two (Size.Build_Size alpha H)). Qed.
(* S(n) in closed form *)
Theorem ceilings_closed : forall alpha, 2 <= alpha -> forall n,
  2 * alpha * Chen.ceilings alpha n = n * (n + alpha) + n mod alpha * (alpha - n mod alpha).
Proof. intros alpha H. exact (@Chen.ceils_closed (Size.Build_Size alpha H)). Qed.
(* l forwards below two a step *)
Theorem any_below_two : forall alpha, 2 <= alpha -> forall l t m, 1 <= l -> 1 <= m ->
  ((exists s, legal (SEPARATE alpha) m t s = true /\ cost s + l <= 2 * t) <->
   l <= 1 + m / alpha /\ l <= t /\ t + (alpha - 1) * Lines.tri l <= Chen.ceilings alpha (m + 1)).
Proof. intros alpha H. exact (@BelowTwo.any_closed (Size.Build_Size alpha H)). Qed.
(* at a forwards a step: t <= F_(a+1)(m) always, and exactly where m is not too small *)
Theorem any_fixed_cost : forall alpha, 2 <= alpha -> forall a t m, 1 <= a -> 1 <= m -> 2 * a - 3 <= m ->
  (done_in (SEPARATE alpha) m t (a * t) <-> t <= Lines.limit alpha (S a) m).
Proof. intros alpha H. exact (@Chen.any_fixed_cost_from (Size.Build_Size alpha H)). Qed.
(* always *)
Theorem any_fixed_cost_most : forall alpha, 2 <= alpha -> forall a t m, 1 <= m ->
  done_in (SEPARATE alpha) m t (a * t) -> t <= Lines.limit alpha (S a) m.
Proof. intros alpha H. exact (@Chen.any_fixed_cost_most (Size.Build_Size alpha H)). Qed.
(* the fewest slots m at a forwards a step: m^a <= a! alpha t <= (m + alpha + a - 1)^a, so m^a / t tends to a! alpha *)
Theorem fewest_bounds : forall alpha, 2 <= alpha -> forall a t m, 1 <= a -> 1 <= t ->
  fewest_slots (SEPARATE alpha) t (a * t) m ->
  m ^ a <= fact a * alpha * t <= (m + alpha + a - 1) ^ a.
Proof. intros alpha H. exact (@Chen.fewest_bounds (Size.Build_Size alpha H)). Qed.
(* the limit, as a bound for every k *)
Theorem fewest_limit : forall alpha, 2 <= alpha -> forall a, 1 <= a -> forall k, exists T, forall t m, T <= t ->
  fewest_slots (SEPARATE alpha) t (a * t) m -> k * m ^ a <= k * (fact a * alpha * t) <= k * m ^ a + t.
Proof. intros alpha H. exact (@Chen.fewest_limit (Size.Build_Size alpha H)). Qed.
(* at a + p/q forwards a step, from some m on *)
Theorem any_rational_cost : forall alpha, 2 <= alpha -> forall a p q, 1 <= a -> p < q ->
  exists M, forall m, M <= m -> forall t,
    (exists l, legal (SEPARATE alpha) m t l = true /\ q * cost l <= (a * q + p) * t) <->
      (q - p) * t <= q * Lines.limit alpha (S a) m.
Proof. intros alpha H. exact (@Rational.any_rational_exact (Size.Build_Size alpha H)). Qed.

(* MSM+ solved: on the stretch (r, l) it costs r t less what is saved at its end and beyond *)
Theorem msm_plus_solved : forall alpha, 2 <= alpha -> forall l r t m, 1 <= m -> 2 <= r -> 1 <= l <= 1 + m / alpha ->
  Stretches.start alpha l r m <= t <= Stretches.reach alpha l r m ->
  msm_plus alpha t m + Stretches.saved alpha l r m + Stretches.extra alpha l r m t = r * t.
Proof. intros alpha H l r t m Hm Hr Hl. exact (@Solved.solved (Size.Build_Size alpha H) l r t m Hl Hr Hm). Qed.
(* and every t lies in a stretch, or costs a forward a step *)
Theorem msm_plus_solved_everywhere : forall alpha, 2 <= alpha -> forall t m, 1 <= m ->
  (t <= 1 + m / alpha /\ msm_plus alpha t m = t) \/
  exists r l, 2 <= r /\ 1 <= l <= 1 + m / alpha /\ Stretches.start alpha l r m <= t <= Stretches.reach alpha l r m.
Proof.
  intros alpha H t m Hm. destruct (Nat.le_gt_cases t (1 + m / alpha)) as [C|C]; [left | right].
  - split; [exact C|]. apply Nat.le_antisymm.
    + exact (@Longest.flat (Size.Build_Size alpha H) m Hm t C).
    + exact (@Bellman.V_ge (Size.Build_Size alpha H) t false m Hm).
  - exact (@Solved.solved_everywhere (Size.Build_Size alpha H) t m Hm C).
Qed.
(* what it does next: a hidden state is stored here, unless a stretch is born with this slot *)
Theorem msm_plus_splits : forall alpha, 2 <= alpha -> forall l r t m, 2 <= m -> 2 <= r -> 1 <= l <= 1 + m / alpha ->
  Stretches.start alpha l r m < t <= Stretches.reach alpha l r m -> (r = 2 -> l <= 1 + (m - 1) / alpha) ->
  1 <= Stretches.split alpha l r t m < t /\
  separate alpha false t m = Stretches.split alpha l r t m + separate alpha false (Stretches.split alpha l r t m) m +
    separate alpha false (t - Stretches.split alpha l r t m) (m - 1).
Proof.
  intros alpha H l r t m Hm Hr Hl Ht Hb.
  exact (@Solved.solved_hidden (Size.Build_Size alpha H) l r t m Hm Hr Hl Ht Hb).
Qed.
(* there, and where a forward a step is enough, the start is given up *)
Theorem msm_plus_releases : forall alpha, 2 <= alpha -> forall t m, alpha <= m -> 1 <= t ->
  t <= 1 + m / alpha \/ (m mod alpha = 0 /\ t <= Stretches.reach alpha (1 + m / alpha) 2 m) ->
  separate alpha false t m = 1 + separate alpha true (t - 1) (m + 1 - alpha).
Proof. intros alpha H. exact (@Solved.solved_release (Size.Build_Size alpha H)). Qed.
(* what is left then, with a start that stays: internal states at a forward a step, beyond a hidden state *)
Theorem msm_plus_after_release : forall alpha, 2 <= alpha -> forall t n, alpha <= n ->
  (2 <= t <= 1 + n / alpha -> separate alpha true t (S n) = 1 + separate alpha true (t - 1) (S n - alpha)) /\
  (1 + n / alpha < t <= 1 + n / alpha + Stretches.reach alpha (1 + n / alpha) 2 n ->
    let y := Nat.max 1 (t - Stretches.reach alpha (1 + n / alpha) 2 n) in
    1 <= y < t /\ separate alpha true t (S n) = y + separate alpha true y (S n) + separate alpha false (t - y) n).
Proof.
  intros alpha H t n Hn. split.
  - exact (@Solved.solved_kept_flat (Size.Build_Size alpha H) t n Hn).
  - exact (@Solved.solved_kept (Size.Build_Size alpha H) t n Hn).
Qed.

(* with every tensor counted once, at two forwards a step: t <= S(m) + 2, where S(n) = ceil(1 / beta) + ... + ceil(n /
   beta) *)
Theorem any_shared_cost_two : forall alpha, 2 <= alpha -> forall t m, 1 <= m ->
  (done_in (SHARED alpha) m t (2 * t) <-> t <= Chen.ceilings (alpha - 1) m + 2).
Proof. exact CostTwo.any_shared_cost_two. Qed.

(* ---------------------------------------------------------------- loops of unknown length *)

(* no policy that decides at once keeps a ratio to HSM below 1 + 1 / (2m + 7) *)
Theorem online_no_policy_below : forall m (P : Online.online_policy m), 2 <= m ->
  exists t, m + 1 <= t <= m + 3 /\ (2 * m + 8) * hsm t m <= (2 * m + 7) * Online.online P t.
Proof. exact Online.no_policy_below. Qed.
(* one policy, known in closed form, keeps 8 / 7 from m = 8 on and 10 / 7 from m = 2 on *)
Theorem online_staged : forall m, 1 <= m -> exists P : Online.online_policy m,
  (forall t, Online.held P t = Restart.W m t /\ Online.used P t = Restart.W m t) /\
  (2 <= m -> forall t, 1 <= t -> 7 * Online.online P t <= 10 * hsm t m) /\
  (8 <= m -> forall t, 1 <= t -> 7 * Online.online P t <= 8 * hsm t m).
Proof.
  intros m H. exists (Restart.W_policy m H). split; [split; reflexivity|]. split; intros Hm t Ht.
  - exact (RestartCost.ten_sevenths m t Hm Ht).
  - exact (RestartCost.eight_sevenths m t Hm Ht).
Qed.
(* some policy keeps 41 / 35 for every m >= 2, and no smaller ratio holds for all *)
Theorem online_forty_one : forall m, 2 <= m -> exists P : Online.online_policy m, forall t, 1 <= t ->
  35 * Online.online P t <= 41 * hsm t m.
Proof. exact All.forty_one. Qed.
(* since two slots cannot do better *)
Theorem online_forty_one_is_least : forall num den, 1 <= den ->
  (forall m, 2 <= m -> exists P : Online.online_policy m, forall t, 1 <= t ->
    den * Online.online P t <= num * hsm t m) -> 41 * den <= 35 * num.
Proof. exact All.forty_one_is_least. Qed.
(* the least ratio of two slots, of three, and of four *)
Theorem online_two_slots :
  (exists P : Online.online_policy 2, forall t, 1 <= t -> 35 * Online.online P t <= 41 * hsm t 2) /\
  (forall P : Online.online_policy 2, exists t, 1 <= t <= 15 /\ 41 * hsm t 2 <= 35 * Online.online P t).
Proof. split; [exact Best.two_slots | exact Anypol.two_slots_lower]. Qed.
(* 12 / 11 *)
Theorem online_three_slots :
  (exists P : Online.online_policy 3, forall t, 1 <= t -> 11 * Online.online P t <= 12 * hsm t 3) /\
  (forall P : Online.online_policy 3, exists t, 1 <= t <= 10 /\ 12 * hsm t 3 <= 11 * Online.online P t).
Proof. split; [exact Best.three_slots | exact Anypol.three_slots_lower]. Qed.
(* 16 / 15 *)
Theorem online_four_slots :
  (exists P : Online.online_policy 4, forall t, 1 <= t -> 15 * Online.online P t <= 16 * hsm t 4) /\
  (forall P : Online.online_policy 4, exists t, 5 <= t <= 7 /\ 16 * hsm t 4 <= 15 * Online.online P t).
Proof. split; [exact Best.four_slots | intros P; exact (Online.no_policy_below 4 P ltac:(auto))]. Qed.
(* the least ratio of two slots where each state is decided about one step late: 57 / 52 *)
Theorem online_two_slots_late :
  (exists P : Deferred.delayed_policy 2, forall t, 1 <= t -> 52 * Deferred.donline P t <= 57 * hsm t 2) /\
  (forall P : Deferred.delayed_policy 2, exists t, 1 <= t <= 35 /\ 57 * hsm t 2 <= 52 * Deferred.donline P t).
Proof. split; [exact DeferredBest.two_slots_late_upper | exact DeferredBest.two_slots_late_lower]. Qed.
(* to decide one step late costs nothing up to (m + 1)(m + 2) / 2 steps, where deciding at once does *)
Theorem online_delay_is_free : forall m, 2 <= m ->
  (exists D : Deferred.delayed_policy m, forall t, 1 <= t <= Online.b m 2 -> Deferred.donline D t = hsm t m) /\
  (forall P : Online.online_policy m, exists t, 1 <= t <= Online.b m 2 /\ hsm t m < Online.online P t).
Proof. exact Deferred.delay_is_free. Qed.
(* what the model counts, complete legal schedules of the machine attain, and their beginning does not depend on the
   end *)
Theorem online_real : forall m (P : Online.online_policy m) t, 1 <= t ->
  (exists more, Real.road P (S t) = Real.road P t ++ more) /\
  exists rest, complete HSM m t (Real.road P t ++ rest) = true /\ cost (Real.road P t ++ rest) = Online.online P t.
Proof. exact Real.online_real. Qed.
(* the same for those that decide a step late *)
Theorem online_late_real : forall m (P : Deferred.delayed_policy m) t, 1 <= t ->
  (exists more, LateReal.lroad P (S t) = LateReal.lroad P t ++ more) /\
  exists rest, complete HSM m t (LateReal.lroad P t ++ rest) = true /\
    cost (LateReal.lroad P t ++ rest) = Deferred.donline P t.
Proof. exact LateReal.late_real. Qed.

(* ---------------------------------------------------------------- two tiers of hidden states *)

(* without slow slots their machine is the machine above, under HSM *)
Theorem fast_tier_alone : forall m t l,
  Tiers.legal Tiers.Fast (Tiers.fs m 0) t (map OneMachine.fast l) = legal HSM m t l /\
  Tiers.complete Tiers.Fast (Tiers.fs m 0) t (map OneMachine.fast l) = complete HSM m t l /\
  (legal HSM m t l = true -> Tiers.cost (Tiers.Prices 1 0 0) (map OneMachine.fast l) = cost l).
Proof. exact OneMachine.fast_tier_alone. Qed.
(* any slots, any prices: the recurrence's value is the cost of a complete schedule *)
Theorem two_tiers_reached : forall c x m t k, 1 <= t -> Value.value c t x m t = Some k ->
  exists l, Tiers.complete x m t l = true /\ Tiers.cost c l = k.
Proof. exact Exact.two_tiers_reached. Qed.
(* one tier alone, any prices: it is the least cost *)
Theorem one_tier_optimal : forall c x m t, m (Tiers.other x) = 0 -> 1 <= m x -> 1 <= t ->
  exists k, Value.value c t x m t = Some k /\
    (exists l, Tiers.complete x m t l = true /\ Tiers.cost c l = k) /\
      (forall l, Tiers.legal x m t l = true -> k <= Tiers.cost c l).
Proof. exact Exact.one_tier_optimal. Qed.
(* both tiers, free transfers: it is the least cost *)
Theorem free_slow_optimal : forall c x m t, Tiers.write c = 0 -> Tiers.read c = 0 -> 1 <= m x -> 1 <= t ->
  exists k, Value.value c t x m t = Some k /\
    (exists l, Tiers.complete x m t l = true /\ Tiers.cost c l = k) /\
      (forall l, Tiers.legal x m t l = true -> k <= Tiers.cost c l).
Proof. exact FreeSlow.free_slow_optimal. Qed.
(* both tiers, any prices: never below the recurrence with all slots in the fast tier *)
Theorem two_tiers_never_below : forall c x m t l, 1 <= t -> 1 <= m x -> Tiers.legal x m t l = true ->
  exists k, Value.value c t Tiers.Fast (Tiers.fs (m Tiers.Fast + m Tiers.Slow) 0) t = Some k /\ k <= Tiers.cost c l.
Proof. exact Merge.never_below. Qed.
