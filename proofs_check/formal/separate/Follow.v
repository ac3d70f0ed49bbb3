(* The walk follows the machine, action for action, at no more cost; so whatever bounds the walk bounds every legal
   schedule of hidden and internal states in separate storage, and P(t, m), R(t, m) do. *)
From Membptt Require Import Laws Policies.
From Membptt Require Import Bellman Walk Project LowerBound.

Section Follow.
Context {size : Size}.
Notation SEP := (SEPARATE alpha).
(* Names that both have are the walk's; of the machine: *)
Local Notation M := Machine.mk.
Local Notation left := Machine.lft.
Local Notation used t s := (Machine.room SEP t s).
Local Notation out s := (output (int s)).
(* what an action costs *)
Definition forwards a := match a with Advance p q => q - p | Record _ => 1 | _ => 0 end.
(* the cost of a stream, action by action *)
Lemma cost_cons : forall a l, cost (a :: l) = forwards a + cost l.
Proof. intros [] l; simpl cost; simpl forwards; try lia. f_equal. destruct p; auto. lia. Qed.

(* ---- the walk follows ---- *)
Definition level s x := if out s x then 2 else if hid s x then 1 else 0.
(* the walk stores what the machine stores at positions that still matter *)
Definition same s w x := lev w x = if x <=? left s then level s x else 0.
(* d forwards are owed to the walk: a recorded step runs in the walk when its core is used; a loaded core stays stored
   there *)
Definition Sim t m s w d :=
  lft w = left s /\ left s <= t /\ cap m t w /\
  match core s with
  | None => d = 0 /\ (forall x, same s w x) /\ (forall q, pos s = Some q -> q <= left s -> cur w = Some q)
  | Some p => pos s = Some (S p) /\
      ((d = 1 /\ (forall x, same s w x) /\ (p < left s -> cur w = Some p)) \/
       (d = 0 /\ int s p = false /\ (forall x, x <> S p -> same s w x) /\
         lev w (S p) = (if p <? left s then 2 else 0))) end.

(* The walk needs no more slots than the machine uses. *)
Lemma level_used : forall s t, room (level s) 0 (S t) <= used t s.
Proof.
  intros. rewrite Laws.room_sumr. unfold room. apply sumr_le. intros x _. unfold level, weight.
  destruct (output (int s) x), (hid s x); simpl; lia.
Qed.
(* so it stays within the slots *)
Lemma same_cap : forall t m s w, (forall x, same s w x) -> used t s <= m -> cap m t w.
Proof.
  intros. unfold cap. pose proof (level_used s t). assert (room (lev w) 0 (S t) <= room (level s) 0 (S t)); [|lia].
  apply room_le. intros x _. rewrite H. apply wt_mono. cases.
Qed.
(* lowering one position *)
Lemma lower : forall t m w x k, k <= lev w x -> cap m t w ->
  exists w1, step w None w1 /\ cap m t w1 /\ lft w1 = lft w /\ cur w1 = cur w /\ (forall y,
    lev w1 y = if y =? x then k else lev w y).
Proof.
  intros t m [c f n] x k H C. exists (mk c (fun y => if y =? x then k else f y) n). simpl in *. repeat split; auto.
  - apply Put with x k; auto.
  - unfold cap in *. simpl in *. etransitivity; [|exact C]. apply room_le. intros y _. apply wt_mono. cases.
Qed.
(* running on without storing *)
Lemma walk_on : forall k t m w p, cur w = Some p -> p + k <= lft w -> lft w <= t -> cap m t w ->
  exists l, run m t w l /\ fin w l = mk (Some (p + k)) (lev w) (lft w) /\ ev 0 t l = k /\
    Forall (fun x => lev (snd x) = lev w) l.
Proof.
  induction k; intros t m [c f n] p Hc Hk Ht C; simpl in *; subst.
  - exists []. rewrite Nat.add_0_r. simpl. auto.
  - destruct (IHk t m (mk (Some (S p)) f n) (S p)) as (l & R & F & E & K); simpl; auto; try lia.
    exists ((Some p, mk (Some (S p)) f n) :: l). simpl. rewrite F, E. replace (S p + k) with (p + S k) by lia.
    repeat split; auto.
    + apply Run with (f (S p)); [lia|]. intro x. cases.
    + cases.
Qed.

(* a start that the machine keeps, the walk keeps *)
Lemma Sim_zero : forall t m s w d, Sim t m s w d -> hid s 0 = true -> lev w 0 = 1.
Proof.
  intros t m s w d (_ & _ & _ & S) H. assert (Z : same s w 0).
  { destruct (core s) as [p|]; [|apply S]. destruct S as (_ & [S|(_ & _ & S & _)]); [apply S | apply S; lia]. }
  rewrite Z. unfold level. simpl. now rewrite H.
Qed.
(* some actions of the walk for one of the machine, at no more cost *)
Definition followed t m s s1 w d a := exists l d1, run m t w l /\ Sim t m s1 (fin w l) d1 /\
  ev 0 t l + d1 <= forwards a + d /\ (hid s 0 = true -> hid s1 0 = true -> Forall (holds 0) l).

(* One action of the machine is some actions of the walk, at no more cost. *)
Lemma Sim_step : forall t m s a s1 w d, exec SEP t s a = Some s1 -> used t s1 <= m -> Sim t m s w d ->
  followed t m s s1 w d a.
Proof.
  intros t m s a s1 w d E U (S1 & S2 & S3 & S4).
  (* the walk does nothing / one action / lowers a position *)
  assert (NONE : forall d1, Sim t m s1 w d1 -> d1 <= forwards a + d ->
     followed t m s s1 w d a).
  { intros d1 A B. exists [], d1. simpl. repeat split; auto; apply A. }
  assert (ONE : forall e w1 d1, step w e w1 -> Sim t m s1 w1 d1 -> evi 0 t e + d1 <= forwards a + d ->
     followed t m s s1 w d a).
  { intros e w1 d1 A B C. exists [(e, w1)], d1. simpl. split; [split; [|split]; auto; apply B|]. split; auto. split;
      [lia|].
    intros _ H. repeat constructor. intros _. simpl. rewrite (Sim_zero _ _ _ _ _ B H). auto. }
  assert (DROP : forall q, pos s1 = pos s -> core s1 = core s -> left s1 = left s ->
     (forall x, x <> q -> level s1 x = level s x) -> level s1 q <= level s q ->
     (forall p, core s = Some p -> int s p = false -> int s1 p = false) ->
     followed t m s s1 w d a).
  { intros q D1 D2 D3 D4 D5 D6.
    destruct (lower t m w q (Nat.min (lev w q) (match core s with Some p => if (q =? S p) && negb (int s p) && (d =? 0)
      then lev w q else level s1 q | None => level s1 q end)))
      as (w1 & W1 & W2 & W3 & W4 & W5); auto; [lia|].
    apply (ONE None w1 d); auto; [|simpl; lia]. unfold Sim, same in *. rewrite D1, D2, D3, W3, W4 in *.
    repeat split; auto. destruct (core s) as [p|] eqn:Co.
    - destruct S4 as (P & [(T1 & T2 & T3)|(T1 & T2 & T3 & T4)]); split; auto; [left|right]; repeat split; auto.
      + intro x. rewrite W5. destruct (Nat.eqb_spec x q) as [->|N].
        * rewrite T2. subst d. simpl. rewrite andb_false_r. cases.
        * rewrite D4, T2; auto.
      + intros x N. rewrite W5. destruct (Nat.eqb_spec x q) as [->|N'].
        * rewrite T3 by auto. destruct (Nat.eqb_spec q (S p)); [congruence|]. simpl. cases.
        * rewrite D4, T3; auto.
      + rewrite W5. destruct (Nat.eqb_spec (S p) q) as [<-|N']; auto. rewrite Nat.eqb_refl, T2. subst d. simpl.
        rewrite T4. lia.
    - destruct S4 as (T1 & T2 & T3). repeat split; auto. intro x. rewrite W5. destruct (Nat.eqb_spec x q) as [->|N].
      + rewrite T2. cases.
      + rewrite D4, T2; auto. }
  destruct a as [start stop|p|p|q|p|q|p|q|p]; unfold exec, guard, idle, available in E; simpl in E;
    rewrite ?orb_false_r in E.
  - (* Advance *) destruct (core s) eqn:Co; simpl in E; [discriminate|].
    destruct (pos s) as [p|] eqn:Po; simpl in E; [|discriminate].
    simpl in E. destruct (Nat.eqb_spec p start); [|discriminate]. subst start.
    destruct (Nat.ltb_spec p stop); [|discriminate].
    destruct (Nat.leb_spec stop t); [|discriminate]. injection E as <-. destruct S4 as (T1 & T2 & T3). subst d.
    destruct (le_lt_dec p (left s)) as [Q|Q].
    + destruct (walk_on (Nat.min stop (left s) - p) t m w p) as (l & R & F & Ev & K); auto; try lia.
      exists l, 0. split; auto. split; [|split; [simpl; lia|]].
      * rewrite F. unfold Sim. simpl. repeat split; auto; try lia. intros q Eq Hq. inj. f_equal. lia.
      * intros H9 _. apply Forall_impl with (2 := K). intros x Hx _. rewrite Hx, T2. unfold level. simpl. rewrite H9.
        auto.
    + apply (NONE 0); [|lia]. unfold Sim. simpl. repeat split; auto. intros q Eq Hq. inj. lia.
  - (* Record *) destruct (core s) eqn:Co; simpl in E; [discriminate|].
    destruct (pos s) as [w0|] eqn:Po; simpl in E; [|discriminate].
    simpl in E. destruct (Nat.eqb_spec w0 p); [|discriminate]. subst w0. destruct (Nat.ltb_spec p t); [|discriminate].
    injection E as <-. destruct S4 as (T1 & T2 & T3). subst d. apply (NONE 1); [|simpl; lia].
    unfold Sim. simpl. repeat split; auto. left. repeat split; auto. intro. apply T3; auto. lia.
  - (* Backpropagate *) destruct (core s) as [c|] eqn:Co; simpl in E; [|discriminate].
    destruct (Nat.eqb_spec c p); [|discriminate].
    subst c. simpl in E. destruct (Nat.eqb_spec (left s) (S p)) as [Hl|]; [|discriminate]. injection E as <-.
    assert (BACK : exists e, step w e (mk None (lev w) p) /\ evi 0 t e <= d /\ forall x, x <> S p -> same s w x).
    { destruct w as [c f n]. simpl in *. subst n. rewrite Hl in *.
        destruct S4 as (P & [(T1 & T2 & T3)|(T1 & T2 & T3 & T4)]).
      - rewrite T3 by lia. exists (Some p). split; [constructor|].
        split; [subst d; unfold evi; cases | intros x _; apply T2].
      - exists None. split; [|simpl; split; [lia|auto]]. apply LoadBack. rewrite T4. cases. }
    destruct BACK as (e & B1 & B2 & B3). destruct (lower t m (mk None (lev w) p) (S p) 0) as (w1 & W1 & W2 & W3 & W4 &
      W5); auto; try lia.
    exists [(e, mk None (lev w) p); (None, w1)], 0. unfold Sim. simpl. repeat split; auto; try lia.
    + intro x. unfold same. simpl. rewrite W5. simpl. destruct (Nat.eqb_spec x (S p)) as [->|N]. cases.
      rewrite (B3 x N), Hl. cases.
    + intros q Eq. discriminate.
    + intros H9 _. assert (Z : lev w 0 = 1). { rewrite (B3 0) by discriminate. unfold level. simpl. now rewrite H9. }
      repeat constructor; intros _; simpl; [lia|]. rewrite W5. destruct (Nat.eqb_spec 0 (S p)); [discriminate|].
      simpl. lia.
  - (* StoreHidden *) destruct (core s) eqn:Co; simpl in E; [discriminate|].
    destruct (pos s) as [w0|] eqn:Po; simpl in E; [|discriminate].
    simpl in E. destruct (Nat.eqb_spec w0 q); [|discriminate]. subst w0. destruct (hid s q) eqn:Hq; [discriminate|].
    simpl in E. injection E as <-. destruct S4 as (T1 & T2 & T3). subst d.
    set (s1 := M (Some q) None (add (hid s) q) (int s) (left s)) in *.
    assert (LV : forall x, level s1 x = if x =? q then (if out s q then 2 else 1) else level s x).
    { intro x. unfold level, s1, add. simpl.
      destruct (Nat.eqb_spec x q) as [->|]; auto. }
    destruct (le_lt_dec q (left s)) as [Q|Q].
    + set (w1 := mk (cur w) (fun x => if x =? q then level s1 q else lev w x) (lft w)).
      assert (SM : forall x, same s1 w1 x).
      { intro x. unfold same, w1. simpl. destruct (Nat.eqb_spec x q) as [->|N]. cases. rewrite T2, LV. cases. }
      apply (ONE None w1 0); [| |simpl; lia].
      * destruct w as [c f n]. apply Put with q (level s1 q); auto. rewrite LV, Nat.eqb_refl. simpl in *.
        destruct (out s q) eqn:O.
        left. rewrite T2. unfold level. rewrite O. cases. right. split; auto.
      * unfold Sim. simpl. repeat split; auto. eapply same_cap; eauto.
    + apply (NONE 0); [|lia]. unfold Sim. simpl. repeat split; auto.
      * intro x. unfold same. rewrite T2. simpl. rewrite LV. cases.
  - (* StoreInternal *) destruct (core s) as [c|] eqn:Co; simpl in E; [|discriminate].
    destruct (Nat.eqb_spec c p); [|discriminate].
    subst c. destruct (int s p) eqn:Ip; [discriminate|]. simpl in E. injection E as <-.
    set (s1 := M (pos s) None (hid s) (add (int s) p) (left s)) in *.
    assert (LV : forall x, level s1 x = if x =? S p then 2 else level s x).
    { intro x. unfold level, s1, add. destruct x as [|x]; simpl. { destruct (Nat.eqb_spec 0 (S p));
      [discriminate | auto]. }
      destruct (Nat.eqb_spec x p), (Nat.eqb_spec (S x) (S p)); auto; lia. }
    destruct S4 as (P & [(T1 & T2 & T3)|(T1 & T2 & T3 & T4)]); subst d; destruct (le_lt_dec (left s) p) as [Q|Q].
    + apply (NONE 0); [|simpl; lia]. unfold Sim. simpl. repeat split; auto.
      * intro x. unfold same. rewrite T2. simpl. rewrite LV. cases.
      * intros y Ey Hy. rewrite P in Ey. inj. lia.
    + set (w1 := mk (Some (S p)) (fun x => if x =? S p then 2 else lev w x) (lft w)).
      assert (SM : forall x, same s1 w1 x).
      { intro x. unfold same, w1. simpl. rewrite LV, T2. cases. }
      apply (ONE (Some p) w1 0).
      * destruct w as [c f n]. simpl in *. rewrite T3 by auto. apply Run with 2; auto. lia.
      * unfold Sim. simpl. repeat split; auto. eapply same_cap; eauto. intros y Ey Hy. congruence.
      * simpl. cases.
    + apply (NONE 0); [|simpl; lia]. unfold Sim. simpl. repeat split; auto.
      * intro x. unfold same. simpl. rewrite LV. destruct (Nat.eqb_spec x (S p)) as [->|N]. rewrite T4. cases.
        rewrite T3 by auto. auto.
      * intros y Ey Hy. rewrite P in Ey. inj. lia.
    + apply (ONE None (mk (Some (S p)) (lev w) (lft w)) 0); [| |simpl; lia].
      * destruct w as [c f n]. simpl in *. apply Get. rewrite T4. cases.
      * unfold Sim. simpl. repeat split; auto.
        -- intro x. unfold same. simpl. rewrite LV. destruct (Nat.eqb_spec x (S p)) as [->|N]. rewrite T4. cases.
           rewrite T3 by auto. auto.
        -- intros y Ey Hy. congruence.
  - (* Restore *) destruct (core s) eqn:Co; simpl in E; [discriminate|]. simpl in E.
    destruct (hid s q || out s q) eqn:O; [|discriminate].
    injection E as <-. destruct S4 as (T1 & T2 & T3). subst d. destruct (le_lt_dec q (left s)) as [Q|Q].
    + apply (ONE None (mk (Some q) (lev w) (lft w)) 0); [| |simpl; lia].
      * destruct w as [c f n]. apply Get. simpl in *. rewrite T2. unfold level. apply orb_prop in O.
        destruct (Nat.leb_spec q (left s)); [|lia]. destruct (out s q), (hid s q); auto; destruct O; discriminate.
      * unfold Sim. simpl. repeat split; auto.
    + apply (NONE 0); [|simpl; lia]. unfold Sim. simpl. repeat split; auto. intros y Ey Hy. inj. lia.
  - (* LoadInternal *) destruct (core s) eqn:Co; simpl in E; [discriminate|]. simpl in E.
    destruct (int s p) eqn:Ip; [|discriminate].
    injection E as <-. destruct S4 as (T1 & T2 & T3). subst d. apply (NONE 0); [|simpl; lia].
    unfold Sim. simpl. repeat split; auto. right. repeat split; auto.
    + unfold del. cases.
    + intros x N. unfold same. rewrite T2. simpl. unfold level, del. destruct x as [|x]; simpl; auto.
      destruct (Nat.eqb_spec x p) as [->|]; [destruct N|]; auto.
    + rewrite T2. unfold level. simpl. rewrite Ip. cases.
  - (* DropHidden *) destruct (hid s q) eqn:Hq; [|discriminate]. injection E as <-. apply (DROP q); auto.
    + intros x N. unfold level, del. simpl. cases.
    + unfold level, del. simpl.
      rewrite Nat.eqb_refl. destruct (out s q), (hid s q); auto.
  - (* DropInternal *) destruct (int s p) eqn:Ip; [|discriminate]. injection E as <-. apply (DROP (S p)); auto.
    + intros x N. unfold level, del. destruct x as [|x]; simpl; auto.
      destruct (Nat.eqb_spec x p) as [->|]; [destruct N|]; auto.
    + unfold level, del. simpl. rewrite Nat.eqb_refl, Ip. destruct (hid s (S p)); lia.
    + intros c _ Ic. unfold del. simpl. rewrite Ic. cases.
Qed.

(* And so for a whole stream; where it never drops the start, the walk holds it. *)
Lemma Sim_execute : forall l t m s s1 w d, execute SEP t m s l = Some s1 -> Sim t m s w d ->
  exists l1 d1, run m t w l1 /\ Sim t m s1 (fin w l1) d1 /\ ev 0 t l1 + d1 <= cost l + d /\
    (hid s 0 = true -> ~ In (DropHidden 0) l -> Forall (holds 0) l1).
Proof.
  induction l as [|a l]; intros t m s s1 w d E I.
  - simpl in E. injection E as <-. exists [], d. simpl. repeat split; auto; apply I.
  - simpl in E. destruct (exec SEP t s a) as [s2|] eqn:X; [|discriminate].
    destruct (Nat.leb_spec (used t s2) m); [|discriminate].
    destruct (Sim_step t m s a s2 w d X H I) as (l1 & d1 & R1 & I1 & E1 & K1).
    destruct (IHl t m s2 s1 (fin w l1) d1 E I1) as (l2 & d2 & R2 & I2 & E2 & K2).
    exists (l1 ++ l2), d2. rewrite run_app, fin_app, ev_app, cost_cons. repeat split; auto; try apply I2; try lia.
    intros H0 N. assert (H2 : hid s2 0 = true).
    { apply exec_step in X. inversion X; subst; simpl in *; auto; unfold add, del; cases. }
    apply Forall_app. split; [auto|]. apply K2; auto. intro Q. apply N. right. auto.
Qed.

(* Whatever obeys the Bellman inequalities bounds ALL legal schedules from below: those that may drop the start by W
   false, those that never do by W true. *)
Theorem any_lower_bound : forall W : bool -> nat -> nat -> nat,
  (forall b m, W b 0 m = 0) -> (forall b m, 1 <= m -> W b 1 m <= 1) -> (forall b t, W b (S t) 1 <= S t + W b t 1) ->
  (forall b t y m, 2 <= m -> 1 <= y < t -> W b t m <= y + W b y m + W false (t - y) (m - 1)) ->
  (forall b t m, 2 <= m -> W b t m <= W false t (m - 1)) ->
  (forall t m, alpha <= m -> 1 <= t -> W false t m <= 1 + W true (t - 1) (m + 1 - alpha)) ->
  forall keep t m l, 1 <= m -> legal SEP m t l = true -> (keep = true -> ~ In (DropHidden 0) l) -> W keep t m <= cost l.
Proof.
  intros W W0 W1 W2 W3 W4 W5 keep t m l Hm P K. unfold legal in P.
  destruct (execute SEP t m (Machine.init 0 t) l) as [s|] eqn:E; [|discriminate]. apply Nat.eqb_eq in P.
  destruct (Sim_execute l t m _ s (init 0 t) 0 E) as (l1 & d1 & R & (F & _) & C & H).
  - unfold Sim, init. simpl. repeat split; auto.
    + apply cap_init; lia.
    + intro x. unfold same, level. simpl. destruct x; simpl; cases.
  - rewrite P in F. pose proof (lower_bound W W0 W1 W2 W3 W4 W5 m Hm (ev 0 t l1) t 0 keep l1) as B.
    simpl in B. rewrite F in B. assert (W keep t m <= ev 0 t l1); [|lia]. apply B; auto.
Qed.
(* P(t, m) and R(t, m) do. *)
Theorem separate_lower_bound : forall keep t m l, 1 <= m -> legal SEP m t l = true -> (keep = true ->
  ~ In (DropHidden 0) l) ->
  V keep t m <= cost l.
Proof. exact (any_lower_bound V V_none V_one V_last V_hidden V_less V_release). Qed.
End Follow.
